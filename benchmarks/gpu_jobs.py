"""Language models on shares of a GPU answer prompts in whole jobs, also when a worker is killed: for `make bench-gpu`.

The model has Qwen2.5-0.5B's shape and random weights. RAGJOB_BENCH_QUESTIONS says how many prompts there are (2,000),
RAGJOB_BENCH_ENGINES which engines answer them (transformers vllm). RAGJOB_BENCH_GPUS above 0 gives embedders and
generators their shares of a GPU; without it they run on processors.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.figures import GPUS, Figure
from benchmarks.jobs import call, command
from benchmarks.passages import passages
from benchmarks.random_qwen2 import save_random_qwen2
from ragjob.cli.sample import CORPUS

QUESTIONS = int(os.environ.get("RAGJOB_BENCH_QUESTIONS", "2000"))
ENGINES = os.environ.get("RAGJOB_BENCH_ENGINES", "transformers vllm").split()
EMBED_SHARE, MAX_CONTEXT_TOKENS, MAX_NEW_TOKENS, COMMIT_ROWS, LOOK_S = 0.1, 400, 64, 64, 0.5


@dataclass(frozen=True)
class Generator:
    """An engine: its share of a GPU, and the settings that it needs on processors."""

    share: float
    on_processors: dict[str, object] = field(default_factory=dict)


GENERATORS = {
    "transformers": Generator(0.15),
    "vllm": Generator(0.8, {"generate.vllm.kv_cache_memory_bytes": 1 << 29}),
}


def figures(folder: Path) -> Iterator[Figure]:
    """Seconds of each job, beside those of the same job with a worker killed. Raises if a prompt lacks its answer."""
    model = save_random_qwen2(folder / "model")
    prompts = folder / "prompts.jsonl"
    questions = ({"prompt": text, "number": number} for number, text in enumerate(passages(QUESTIONS)))
    prompts.write_text("\n".join(map(json.dumps, questions)), "utf-8")
    call(command("index", {"corpus.uri": CORPUS, "index.uri": folder / "index"}))
    for engine in ENGINES:
        generator = GENERATORS[engine]
        shares: dict[str, object] = generator.on_processors
        if GPUS:
            shares = {"embed.pool.num_gpus": EMBED_SHARE, "generate.pool.num_gpus": generator.share}
        settings = {
            "prompts.uri": prompts,
            "index.uri": folder / "index",
            "commit_rows": COMMIT_ROWS,
            "augment.max_context_tokens": MAX_CONTEXT_TOKENS,
            "generate.engine": engine,
            "generate.model": model,
            "generate.max_new_tokens": MAX_NEW_TOKENS,
            **shares,
        }
        alone = job(settings | {"output.uri": folder / engine})
        killed = job(settings | {"output.uri": folder / f"{engine}-killed"}, kill=True)
        name = f"{QUESTIONS:,} prompts by {engine}, the largest worker killed"
        yield Figure(name, "s", killed, alone, "left alone", [killed / alone])


def job(settings: dict[str, object], *, kill: bool = False) -> float:
    """Seconds of a whole `ragjob answer`, whose largest worker may be killed once a part of the answers is there."""
    start, output = time.perf_counter(), Path(str(settings["output.uri"]))
    program = command("answer", settings)
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    while kill and process.poll() is None:
        time.sleep(LOOK_S)
        if any(output.glob("_staging/*/part-*")):
            largest_worker(process).kill()
            kill = False
    if process.wait() or kill:
        raise RuntimeError(f"{' '.join(program)} ended with {process.returncode}{' before a kill' if kill else ''}")
    check(output)
    return time.perf_counter() - start


def largest_worker(process: "subprocess.Popen[bytes]") -> psutil.Process:
    """The worker of a job that holds the most memory: a generator."""
    sizes: dict[psutil.Process, int] = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):  # ended meanwhile
            if "MapWorker" in " ".join(child.cmdline()):
                sizes[child] = child.memory_info().rss
    return max(sizes, key=sizes.__getitem__)


def check(output: Path) -> None:
    """Raise unless each prompt is answered once, without an error."""
    (file,) = output.glob("*/answers.parquet")
    answers = pq.read_table(file, columns=["number", "error"])
    if answers["number"].to_pylist() != list(range(QUESTIONS)) or answers["error"].null_count != QUESTIONS:
        raise RuntimeError(f"{file} lacks answers, or has errors")
