"""bm25s, without numba.

Where numba is installed, as it is beside vLLM, bm25s would bring it in: seconds and memory for what we don't use, and
vLLM's build for processors doesn't start in a process that has it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BM25", "stopwords"]


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Hide a module from imports during the block, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


with _without("numba"):
    from bm25s import BM25, stopwords
