import logging

import pytest

from ragjob.runtime.events import as_event, fields


def record(**extra: object) -> logging.LogRecord:
    """A record as `log.warning("%s left", 3, extra=extra)` makes it, at a known time."""
    made = logging.getLogger("ragjob").makeRecord(
        "ragjob", logging.WARNING, "a.py", 1, "%s left", (3,), None, "f", extra
    )
    made.created = 1_700_000_000.0625
    return made


def test_an_event_has_its_time_in_utc_its_level_its_message_and_its_fields() -> None:
    assert as_event(record(stage="embed", rows=7)) == {
        "time": "2023-11-14T22:13:20.062+00:00",
        "level": "warning",
        "event": "3 left",
        "stage": "embed",
        "rows": 7,
    }


@pytest.mark.parametrize(("value", "shown"), [(1.26, 1.3), (2.0, 2.0), (7, 7), ("1.26", "1.26"), (None, None)])
def test_fractions_are_shown_with_one_decimal(value: object, shown: object) -> None:
    assert fields(record(seconds=value)) == {"seconds": shown}


def test_a_formatted_record_has_no_more_fields_than_a_fresh_one() -> None:
    formatted = record(rows=7)
    logging.Formatter("%(asctime)s %(message)s").format(formatted)
    assert fields(formatted) == {"rows": 7}
