"""What a running flow tells of itself."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_PLAIN = frozenset([*vars(logging.makeLogRecord({})), "message", "asctime"])


@dataclass(frozen=True)
class Progress:
    """How far one stage is: `rows` it gave, and the share of the flow's blocks that it is through with."""

    stage: str
    rows: int
    share: float


Observe = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Observe nothing."""


def as_event(record: logging.LogRecord) -> dict[str, Any]:
    """A log record as one flat event: its time in UTC, level and message, and the fields given as `extra`."""
    about = {"time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")}
    about |= {"level": record.levelname.lower(), "event": record.getMessage()}
    return about | fields(record)


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a log record was given as `extra`, without what Ray adds; fractions with one decimal."""
    extra = {name: value for name, value in vars(record).items() if name not in _PLAIN and name[0] != "_"}
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in extra.items()}
