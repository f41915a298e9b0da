"""Write the tables of docs/figures.md that are made from the files in benchmarks/results.

`make docs` runs it; tests/test_docs.py compares. Such a file is what `python -m benchmarks --json FILE` has written.
"""

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("figures.md")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
HEAD = "| | ragjob | baseline | ratio | goal |\n|---|---|---|---|---|"


def page() -> str:
    """docs/figures.md as it should be."""
    tables = "\n\n".join(_table(json.loads(file.read_text("utf-8"))) for file in sorted(RESULTS.glob("*.json")))
    return re.sub(
        r"(?<=<!-- results -->\n).*?(?=\n<!-- end of results -->)",
        lambda _: f"\n{tables}\n",
        PAGE.read_text("utf-8"),
        flags=re.S,
    )


def _table(result: dict[str, Any]) -> str:
    about = result["machine"]
    where = f"{about['cpus']} cores with {about['processor']}, {about['memory_gb']:.0f} GB, {about['cuda'] or 'no GPU'}"
    rows = "\n".join(map(_row, result["figures"]))
    return f"`{result['command']}` on {about['date']}: {where}, Python {about['python']}.\n\n{HEAD}\n{rows}"


def _row(figure: dict[str, Any]) -> str:
    ours, baseline = (f"{_number(figure[side])} {figure['unit']}" for side in ("ours", "baseline"))
    ratio = f"{figure['ratio']:.2f} ({min(figure['ratios']):.2f} to {max(figure['ratios']):.2f})"
    limits = [(sign, figure[key]) for sign, key in (("≤", "at_most"), ("≥", "at_least")) if figure[key] is not None]
    goal = " and ".join(f"{sign} {limit:.3g}" for sign, limit in limits)
    verdict = f"{goal}: {'met' if figure['holds'] else 'missed'}" if goal else ""
    return f"| {figure['name']} | {ours} | {figure['baseline_name']}: {baseline} | {ratio} | {verdict} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
