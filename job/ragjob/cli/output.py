"""Where commands print: the console, and what the job logs."""

import json
import logging
import re

from rich.console import Console

from ragjob.ledger.events import as_event, fields

out = Console(highlight=False, soft_wrap=True)

# Of a terminal's control: C0 and C1, separators of lines, what turns the direction of text, and halves of characters.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(value: object) -> str:
    """A text from outside, such as a file's name, on one line and without what a terminal would obey.

    >>> shown("report\\x1b[2J\\u202etxt.exe")
    'report\\\\x1b[2J\\\\u202etxt.exe'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


class _Events(logging.Handler):
    """Prints what the job logs, with its fields: text on a terminal, a JSON line elsewhere.

    A terminal gets one line: fields of several, as tracebacks, are in the log that is kept with the run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if out.is_terminal:
            about = [f"{name}={value}" for name, value in fields(record).items() if "\n" not in str(value)]
            print(shown(record.getMessage()), *map(shown, about))
        else:
            print(json.dumps(as_event(record), default=str), flush=True)


events = _Events()
