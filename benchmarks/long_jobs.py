"""Long jobs: an index against the plain loop, and jobs that are killed: a part of `make bench-scale`.

Each is killed when half of its parts are there; the same command then does the rest. RAGJOB_BENCH_TIMES says how many
times the novel of benchmarks/jobs.py is indexed (10), RAGJOB_BENCH_QUESTIONS how many are answered (4,000).
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Figure, seconds
from benchmarks.jobs import Index, Loop, call, command, novel
from benchmarks.passages import passages
from ragjob.cli.sample import CORPUS
from ragjob.config import JobSettings
from ragjob.retrieval.chroma.server import LocalChroma

TIMES = int(os.environ.get("RAGJOB_BENCH_TIMES", "10"))
QUESTIONS = int(os.environ.get("RAGJOB_BENCH_QUESTIONS", "4000"))
COMMIT_ROWS = JobSettings.model_fields["commit_rows"].default
LOOK_S = 0.5
Job = Callable[[str, str], list[str]]  # the command, for files below a folder and the server at a url


def figures(folder: Path) -> Iterator[Figure]:
    """One run of each: these take long."""
    index = Index(novel(folder, TIMES))
    whole = whole_job(folder / "whole", index)
    loop = whole_job(folder / "loop", Loop(index.corpus))
    name = f"index of {TIMES} novels"
    yield Figure(name, "s", whole, loop, "plain loop", [whole / loop], at_most=0.55)
    rest = rest_of(folder / "killed", index, "index/segments/*/part-*", max(1, TIMES // 2))  # each file is a part
    yield share(name, rest, whole)

    run = Run(folder, QUESTIONS)
    whole = whole_job(folder / "run", run)
    rest = rest_of(folder / "killed-run", run, "answers/_staging/*/part-*", round(QUESTIONS / COMMIT_ROWS / 2))
    yield share(f"{QUESTIONS:,} questions", rest, whole)


class Run:
    """`ragjob run` over the sample corpus, of `questions` prompts that it writes into `folder`."""

    def __init__(self, folder: Path, questions: int) -> None:
        self._prompts = folder / "questions.txt"
        self._prompts.write_text("\n".join(passages(questions)), "utf-8")

    def __call__(self, folder: str, url: str) -> list[str]:
        """The command, for files below `folder` and the server at `url`."""
        places = {"index.uri": f"{folder}/index", "output.uri": f"{folder}/answers"}
        return command("run", {"corpus.uri": CORPUS, "prompts.uri": self._prompts, "chroma.url": url, **places})


def whole_job(folder: Path, job: Job) -> float:
    """Seconds of a whole process, into an empty server that runs already."""
    with LocalChroma(str(folder / "chroma")) as server:
        program = job(str(folder), server.url())
        return seconds(lambda: call(program))


def rest_of(folder: Path, job: Job, staged: str, parts: int) -> float:
    """Seconds that a job takes which was killed when so many `parts` were there, files named as in `staged`."""
    with LocalChroma(str(folder / "chroma")) as server:
        program = job(str(folder), server.url())
        killed = subprocess.Popen(program, stdout=subprocess.DEVNULL, start_new_session=True)
        while killed.poll() is None and len(list(folder.glob(staged))) < parts:
            time.sleep(LOOK_S)
        if killed.poll() is not None:
            raise RuntimeError(f"{' '.join(program)} ended before it could be killed")
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        return seconds(lambda: call(program))


def share(name: str, rest: float, whole: float) -> Figure:
    """What was left of a killed job, against all of it."""
    return Figure(f"{name}, killed at half: the rest", "s", rest, whole, "the whole", [rest / whole], at_most=0.6)
