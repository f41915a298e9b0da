import importlib

import pytest

from benchmarks.__main__ import LONG, PARTS


@pytest.mark.parametrize("part", PARTS + LONG)
def test_every_part_has_figures(part: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{part}").figures)
