"""Batch retrieval-augmented generation: answer a file of prompts from a corpus, every prompt exactly once.

>>> import tempfile
>>> from ragjob import JobSettings, run
>>> from ragjob.cli.sample import CORPUS, PROMPTS
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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragjob.commands.api import Progress, answer, clean, index, load, run
    from ragjob.commands.report import Cost, Leftover, PassedOver, Report
    from ragjob.config import JobSettings, load_settings
    from ragjob.errors import (
        DataError,
        Defect,
        DependencyError,
        RagjobError,
        SettingsError,
        Stopped,
        TooManyFailures,
    )

__all__ = [
    "Cost",
    "DataError",
    "Defect",
    "DependencyError",
    "JobSettings",
    "Leftover",
    "PassedOver",
    "Progress",
    "RagjobError",
    "Report",
    "SettingsError",
    "Stopped",
    "TooManyFailures",
    "answer",
    "clean",
    "index",
    "load",
    "load_settings",
    "run",
]

# Where names are looked for, the lightest first: `ragjob --help` must not pay for pydantic, let alone for pyarrow.
_MODULES = (
    "ragjob.errors",
    "ragjob.config",
    "ragjob.commands.report",
    "ragjob.commands.api",
)


def __getattr__(name: str) -> object:
    for module in map(import_module, _MODULES if name in __all__ else ()):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module 'ragjob' has no attribute {name!r}")
