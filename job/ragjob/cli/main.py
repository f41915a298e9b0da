"""`ragjob` as a program: its exit code, its signals, and what it says on stderr."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from ragjob.cli.commands import app
from ragjob.cli.output import events
from ragjob.errors import Defect, RagjobError, SettingsError, Stopped, printable

REPORT_IT = "ragjob: this is a defect of ragjob; please report it with the traceback above"


def main() -> NoReturn:
    """Run the command line. An error that a user can correct is one line; a defect of ours shows its traceback."""
    signal.signal(signal.SIGTERM, _stop)
    logging.getLogger("ragjob").addHandler(events)
    logging.getLogger("ragjob").setLevel(logging.INFO)
    with _reserved_stderr() as stderr:
        sys.exit(_exit_code(stderr))


def _exit_code(stderr: TextIO) -> int:
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except RagjobError as error:
        return _end(error, stderr)
    except Exception as error:  # noqa: BLE001 - stderr is reserved, so we print the traceback ourselves
        if hasattr(error, "format_message"):  # the parser's errors have it
            usage = f"{error.format_message().removesuffix('.')}; `ragjob --help` shows the usage"
            return _end(SettingsError(usage), stderr)
        return _end(Defect("".join(traceback.format_exception(error)).rstrip()), stderr)
    # The parser turns KeyboardInterrupt into a code.
    stopped = Stopped("stopped; finished work is kept, so run the same command again to resume")
    return _end(stopped, stderr) if code else 0


def _end(error: RagjobError, stderr: TextIO) -> int:
    """Print the error, and return its exit code."""
    if isinstance(error, Defect):  # its message is a traceback
        print(*map(printable, str(error).split("\n")), REPORT_IT, sep="\n", file=stderr)
    else:
        print(f"ragjob: {printable(' '.join(str(error).split()))}", file=stderr)
    return error.exit_code


@contextmanager
def _reserved_stderr() -> Iterator[TextIO]:
    """Keep stderr for our lines alone: Ray writes notices there, some of them from native code."""
    with os.fdopen(os.dup(2), "w", buffering=1) as stderr:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield stderr


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
