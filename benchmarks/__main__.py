"""Measure every stage against a baseline in the same run: `make bench`. Longer parts have targets of their own.

Prints a table, line by line as it is measured, and writes it as JSON with what the machine is. Ends with 1 when a
figure misses its goal.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure

# Modules with `figures(folder)`, which yields each `Figure` as soon as it is measured.
PARTS = ["embed", "documents", "chunk", "store", "retrieve", "filters", "generate", "jobs", "pools"]
LONG = ["scale", "large_index", "long_jobs", "peers", "gpu_jobs"]


def main() -> None:
    """Measure the parts named, by default those of `make bench`."""
    options = parse()
    print(f"{'what':46} {'ours':>10} {'baseline':>10} {'ratio':>6} {'spread':>13}  baseline; goal")
    about, figures = machine(), []
    for part in options.parts:
        for figure in measure(part):
            print(line(figure), flush=True)
            figures.append({"part": part, **asdict(figure), "ratio": figure.ratio, "holds": figure.holds})
            result = {"command": command(options.parts), "machine": about, "figures": figures}
            options.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(f"written to {options.json}")
    if missed := [figure["name"] for figure in figures if not figure["holds"]]:
        sys.exit(f"missed: {', '.join(missed)}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="part", help=f"of {', '.join(PARTS + LONG)}")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the JSON goes (bench.json)")
    options = parser.parse_args()
    if unknown := set(options.parts) - {*PARTS, *LONG}:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS + LONG)}")
    return options


def command(parts: list[str]) -> str:
    """What has to be run to measure this again."""
    variables = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("RAGJOB_BENCH_")]
    return " ".join([*variables, "python -m benchmarks", *parts])


def measure(part: str) -> Iterator[Figure]:
    """The figures of one part, each as soon as it is there."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield from importlib.import_module(f"benchmarks.{part}").figures(Path(folder))
    print(f"  ({part}: {time.perf_counter() - start:.0f} s)", file=sys.stderr)


def line(figure: Figure) -> str:
    """One row of the table."""
    spread = f"{min(figure.ratios):.2f} to {max(figure.ratios):.2f}"
    values = f"{figure.ours:>10.4g} {figure.baseline:>10.4g} {figure.ratio:>6.2f} {spread:>13}"
    goals = [f"{word} {goal:g}" for word, goal in (("<=", figure.at_most), (">=", figure.at_least)) if goal is not None]
    goal = f"; {' and '.join(goals)}: {'holds' if figure.holds else 'MISSED'}" if goals else ""
    return f"{f'{figure.name} ({figure.unit})':46} {values}  {figure.baseline_name}{goal}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import psutil
    import torch

    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
