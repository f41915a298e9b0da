"""How both flows' cost grows with their work, with models that cost nothing: `make bench-scale`.

RAGJOB_BENCH_CHUNKS and RAGJOB_BENCH_PROMPTS say how many at the most (1,000,000 and 100,000).
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure
from ragjob.retrieval.chroma.server import LocalChroma

CHUNKS, PROMPTS = (
    int(os.environ.get(f"RAGJOB_BENCH_{name}", default)) for name, default in (("CHUNKS", 10**6), ("PROMPTS", 10**5))
)
SHARES = (0.1, 0.4, 0.7, 1.0)  # of the most: the points of a line
LINES = 10  # of a document, each a chunk
GROUP = 10_000  # rows of a row group
# What the flows are held to.
CHUNKS_A_SECOND, PROMPTS_A_SECOND, OFF_THE_LINE, DRIVER_MB, TOGETHER_MB = 15_000, 500, 0.05, 100, 6_000
LOOK_S = 1.0


@dataclass(frozen=True)
class Ran:
    """A job's seconds, and the most memory that its driver, and all of its processes, held, in MB."""

    seconds: float
    driver: float
    together: float


def figures(folder: Path) -> Iterator[Figure]:
    """Both flows over growing inputs; a small index serves the prompts."""
    sizes = [int(CHUNKS * share) for share in SHARES]
    yield from grown("index, chunks", sizes, [index(folder, size) for size in sizes], CHUNKS_A_SECOND)
    sizes = [int(PROMPTS * share) for share in SHARES]
    with LocalChroma(str(folder / "chroma")) as server:
        index(folder, 1000, f"chroma.url={server.url()}")
        ran = [answer(folder, size, f"chroma.url={server.url()}") for size in sizes]
    yield from grown("answer, prompts", sizes, ran, PROMPTS_A_SECOND)


def grown(what: str, sizes: list[int], ran: list[Ran], rate: int) -> Iterator[Figure]:
    """The rate by the line through all points, how far off it they are, and how memory grew from first to last."""
    slope, start = map(float, np.polyfit(sizes, [job.seconds for job in ran], 1))
    points = ", ".join(f"{size:,} in {job.seconds:.1f} s" for size, job in zip(sizes, ran, strict=True))
    off = max(abs(job.seconds / (slope * size + start) - 1) for size, job in zip(sizes, ran, strict=True))
    grew = ran[-1].driver - ran[0].driver
    together = max(job.together for job in ran)
    yield Figure(f"{what}/s", "1/s", 1 / slope, rate, f"the least; {points}", [1 / slope / rate], at_least=1)
    for name, unit, measured, most in (
        ("off the line", "share", off, OFF_THE_LINE),
        ("the driver's growth", "MB", grew, DRIVER_MB),
        ("all processes", "MB", together, TOGETHER_MB),
    ):
        yield Figure(f"{what}: {name}", unit, measured, most, "the most", [measured / most], at_most=1)


def index(folder: Path, chunks: int, *more: str) -> Ran:
    """Index documents of `LINES` lines."""
    documents = (
        "\n".join(f"Document {number}, line {line}: trams leave every nine minutes." for line in range(LINES))
        for number in range(chunks // LINES)
    )
    corpus = write(folder / f"corpus-{chunks}.parquet", "text", documents, chunks // LINES)
    return run(
        "index",
        f"corpus.uri={corpus}",
        "corpus.id_column=id",
        f"index.uri={folder}/index-{chunks}",
        *more,
    )


def answer(folder: Path, prompts: int, *more: str) -> Ran:
    """Answer prompts from the index of 1,000 chunks."""
    texts = (f"When does tram {number} leave?" for number in range(prompts))
    uri = write(folder / f"prompts-{prompts}.parquet", "prompt", texts, prompts)
    places = f"index.uri={folder}/index-1000", f"output.uri={folder}/answers-{prompts}"
    return run("answer", f"prompts.uri={uri}", "prompts.id_column=id", *places, *more)


def write(path: Path, column: str, texts: Iterator[str], count: int) -> Path:
    """A Parquet file of `count` rows with `id` and `column`."""
    columns = pa.schema([("id", pa.string()), (column, pa.string())])
    with pq.ParquetWriter(path, columns) as writer:
        for first in range(0, count, GROUP):
            numbers = range(first, min(first + GROUP, count))
            rows = {"id": [str(number) for number in numbers], column: [next(texts) for _ in numbers]}
            writer.write_table(pa.table(rows, columns))
    return path


def run(*arguments: str) -> Ran:
    """Run the job with models that cost nothing, and watch its memory."""
    start, driver, together = time.perf_counter(), 0.0, 0.0
    command = [sys.executable, "-m", "benchmarks.free_models", *arguments, "chunk.strategy=line"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error):
            driver = max(driver, watched.memory_info().rss / 1e6)
            together = max(together, held_together(watched))
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return Ran(time.perf_counter() - start, driver, together)


def held_together(process: psutil.Process) -> float:
    """MB that a process and all below it hold."""
    return sum(map(held, [process, *process.children(recursive=True)]))


def held(process: psutil.Process) -> float:
    """MB that a process holds, its share of what it shares with others."""
    with suppress(psutil.Error):
        return float(process.memory_full_info().pss / 1e6)
    return 0.0
