"""Where commands print: the console, and what the job logs."""

import json
import logging

from rich.console import Console

from ragjob.errors import printable
from ragjob.runtime.events import as_event, fields

out = Console(highlight=False, soft_wrap=True)


class _Events(logging.Handler):
    """Prints what the job logs, with its fields: text on a terminal, a JSON line elsewhere.

    A terminal gets one line: fields with several, such as tracebacks, are only in the log that is kept with the run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        if out.is_terminal:
            about = [f"{name}={value}" for name, value in fields(record).items() if "\n" not in str(value)]
            print(printable(record.getMessage()), *map(printable, about))
        else:
            print(json.dumps(as_event(record), default=str), flush=True)


events = _Events()
