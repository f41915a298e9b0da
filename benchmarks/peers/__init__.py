"""Whole processes that index the same passages with the same model into an empty Chroma server: ours and its peers.

The peers run by their defaults, in an environment of their own (`make bench-peers`). Each collection is counted.

RAGJOB_BENCH_PASSAGES says how many passages (1000 5000 10000); RAGJOB_BENCH_CORPUS names a text file to take its
lines from, instead of the sample; RAGJOB_BENCH_RUNS how often each program runs (3).
"""

import os
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import chromadb

from benchmarks.figures import Figure, seconds
from benchmarks.jobs import MODEL, Index, call
from benchmarks.passages import passages
from ragjob.models.folder import find_package
from ragjob.retrieval.chroma.server import LocalChroma

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
PEERS = {"LangChain": "with_langchain.py", "LlamaIndex": "with_llama_index.py"}
FASTEST_FROM = 5000  # passages
LONGER_THAN = 10  # characters: ours leaves out shorter ones

Program = Callable[[str, str], list[str]]  # the command, for files below a folder and a server's url


def figures(folder: Path) -> Iterator[Figure]:
    """Ours against each peer, for more and more passages."""
    runs = int(os.environ.get("RAGJOB_BENCH_RUNS", "3"))
    for rows in map(int, os.environ.get("RAGJOB_BENCH_PASSAGES", "1000 5000 10000").split()):
        corpus = folder / f"{rows}.txt"
        corpus.write_text("\n".join(lines(rows)), "utf-8")
        programs = {"ours": Index(corpus)} | {name: partial(peer, script, corpus) for name, script in PEERS.items()}
        turns = [{name: measure(program, rows) for name, program in programs.items()} for _ in range(runs)]
        yield from (against(name, rows, turns) for name in PEERS)


def lines(rows: int) -> list[str]:
    """So many passages, of the file that the environment names or of the sample."""
    named = os.environ.get("RAGJOB_BENCH_CORPUS")
    if not named:
        return passages(rows)
    stripped = [line.strip() for line in Path(named).read_text("utf-8").split("\n")]
    repeated = islice(cycle([line for line in stripped if len(line) > LONGER_THAN]), rows)
    return [f"{number}. {line}" for number, line in enumerate(repeated, 1)]


def peer(script: str, corpus: Path, folder: str, url: str) -> list[str]:
    """The command of a peer."""
    return [str(PYTHON), str(HERE / script), str(corpus), find_package(MODEL, "embed.model").files.fetch(), url]


def measure(program: Program, rows: int) -> float:
    """Seconds of the process; its collection has all rows in the end."""
    with TemporaryDirectory() as folder, LocalChroma(f"{folder}/chroma") as server:
        url = urlsplit(server.url())
        command = program(folder, server.url())
        took = seconds(lambda: call(command))
        [collection] = chromadb.HttpClient(url.hostname, url.port).list_collections()
        if collection.count() != rows:
            raise SystemExit(f"{collection.count()} rows instead of {rows}: {' '.join(command)}")
    return took


def against(name: str, rows: int, turns: list[dict[str, float]]) -> Figure:
    """Ours against one of its peers."""
    ours, theirs = (statistics.median(turn[side] for turn in turns) for side in ("ours", name))
    ratios = [turn["ours"] / turn[name] for turn in turns]
    at_most = 1.0 if rows >= FASTEST_FROM else None
    return Figure(f"index of {rows:,} passages", "s", ours, theirs, name, ratios, at_most)
