"""Write the version in pyproject.toml wherever else it stands: the chart, its values, plain manifests, docs and CI.

`make docs` runs it; tests/test_version.py compares.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = (
    "helm/ragjob/Chart.yaml",
    "helm/ragjob/values.yaml",
    "helm/ragjob/examples/*.yaml",
    "k8s/kind/*.yaml",
    "k8s/base/*.yaml",
    "docs/*.md",
    "README.md",
    ".ci/*",
    ".github/workflows/*.yml",
    "tests/e2e/*.py",
)
_NUMBER = r"\d+\.\d+\.\d+[-.a-z0-9]*?"
# Of the image, of the chart, and of the labels that the chart gives to what it renders.
_PLACES = re.compile(
    rf"(?m)((?:\bragjob:|\btag: |^version: |^appVersion: |helm\.sh/chart: ragjob-|kubernetes\.io/version: \")){_NUMBER}"
    r"((?:-cpu|-gpu)?(?:[\"`}} ),;]|-\$|$))"
)


def version() -> str:
    """The project's version, as pyproject.toml has it."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def pages() -> Iterator[tuple[Path, str]]:
    """Each file that bears the version, and what it should hold."""
    wanted = version()
    for pattern in FILES:
        for file in sorted(ROOT.glob(pattern)):
            text = file.read_text("utf-8")
            if _PLACES.search(text):
                yield file, _PLACES.sub(rf"\g<1>{wanted}\g<2>", text)


def main() -> None:
    for file, text in pages():
        file.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
