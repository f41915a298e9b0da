"""Log records as events: what they say, and the fields that they were given."""

import logging
from datetime import UTC, datetime

_PLAIN = frozenset([*vars(logging.makeLogRecord({})), "message", "asctime"])


def as_event(record: logging.LogRecord) -> dict[str, object]:
    """A log record as one flat event: its time in UTC, level and message, and the fields given as `extra`."""
    about = {"time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")}
    about |= {"level": record.levelname.lower(), "event": record.getMessage()}
    return about | fields(record)


def fields(record: logging.LogRecord) -> dict[str, object]:
    """What a log record was given as `extra`, without what Ray adds; fractions with one decimal."""
    extra = {name: value for name, value in vars(record).items() if name not in _PLAIN and name[0] != "_"}
    return {name: round(value, 1) if isinstance(value, float) else value for name, value in extra.items()}
