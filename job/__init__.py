"""Batch retrieval-augmented generation: answer a file of prompts from a corpus, each exactly once.

>>> import tempfile
>>> from job import JobSettings, run
>>> from job.sample import CORPUS, PROMPTS
>>> folder = tempfile.mkdtemp()
>>> report = run(JobSettings(
...     corpus={"uri": str(CORPUS)},
...     prompts={"uri": str(PROMPTS)},
...     index={"uri": f"{folder}/index"},
...     output={"uri": f"{folder}/answers"},
... ))
>>> report.rows, report.errors
(34, 0)
>>> import pyarrow.parquet as pq
>>> answers = pq.read_table(report.answers)
>>> answers.num_rows
34
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from job.config import JobSettings
    from job.pipeline import answer, index, load, run

__all__ = ["JobSettings", "answer", "index", "load", "run"]


def __getattr__(name: str) -> Any:
    # Names load on first use: `ragjob --help` must not pay for pydantic, let alone for Ray.
    if name not in __all__:
        raise AttributeError(f"module 'job' has no attribute {name!r}")
    return getattr(import_module("job.config" if name == "JobSettings" else "job.pipeline"), name)
