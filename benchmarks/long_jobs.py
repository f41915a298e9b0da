"""A long index against the plain loop, and one that is killed at half: a part of `make bench-scale`.

RAGJOB_BENCH_TIMES says how many times the novel of benchmarks/jobs.py is indexed (10).
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, seconds
from benchmarks.jobs import Index, Loop, call, novel
from job.chroma_server import LocalChroma

TIMES = int(os.environ.get("RAGJOB_BENCH_TIMES", "10"))
LOOK_S = 0.5


def figures(folder: Path) -> Iterator[Figure]:
    """One pair: these take long."""
    corpus = novel(folder, TIMES)
    whole, parts = whole_index(folder / "whole", corpus)
    with LocalChroma(str(folder / "loop")) as server:
        loop = seconds(lambda: call(Loop(corpus)("", server.url())))
    yield Figure(f"index of {TIMES} novels", "s", whole, loop, "plain loop", [whole / loop], at_most=0.55)
    rest = rest_of_index(folder / "killed", corpus, parts // 2)
    yield Figure("killed at half: the rest", "s", rest, whole, "the whole", [rest / whole], at_most=0.6)


def whole_index(folder: Path, corpus: Path) -> tuple[float, int]:
    """Seconds of the index, and of how many parts it is."""
    with LocalChroma(str(folder / "chroma")) as server:
        program = Index(corpus)(str(folder), server.url())
        return seconds(lambda: call(program)), staged(folder)


def rest_of_index(folder: Path, corpus: Path, parts: int) -> float:
    """Seconds that an index takes which was killed when it had put `parts` parts."""
    with LocalChroma(str(folder / "chroma")) as server:
        program = Index(corpus)(str(folder), server.url())
        killed = subprocess.Popen(program, stdout=subprocess.DEVNULL, start_new_session=True)
        while killed.poll() is None and staged(folder) < parts:
            time.sleep(LOOK_S)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        return seconds(lambda: call(program))


def staged(folder: Path) -> int:
    """Parts of the index that are there."""
    return len(list((folder / "index").glob("versions/*/part-*")))
