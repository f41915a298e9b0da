"""What one attempt logs, kept with its run."""

import json
import logging
import os
import socket
import time
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from threading import Thread
from typing import Self

from ragjob import storage
from ragjob.errors import Defect, RagjobError, Stopped
from ragjob.runtime.events import as_event

KEEP_S = 30.0  # what a kill can cost of the log
LAST_S = 5.0  # for the last of it: a job that is stopped has no more time than that


class AttemptLog(logging.Handler):
    """Keeps what the job logs as JSON lines in a file of its own in `folder`, also when the attempt fails.

    A log that can't be written doesn't end the job.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(logging.INFO)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._uri = storage.join(folder, name)
        self._lines: list[str] = []
        self._kept = time.monotonic()
        self._logger = logging.getLogger("ragjob")

    def __enter__(self) -> Self:
        self._level = self._logger.level
        self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
        if error is not None:
            self.emit(_ending(error))
        last = Thread(target=self._keep, daemon=True)
        last.start()
        last.join(LAST_S)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record; write the file now and then."""
        self._lines.append(json.dumps(as_event(record), ensure_ascii=False, default=str) + "\n")
        if time.monotonic() - self._kept >= KEEP_S:
            self._keep()

    def _keep(self) -> None:
        with suppress(RagjobError):
            storage.put(self._uri, "".join(self._lines).encode("utf-8", "replace"))
        self._kept = time.monotonic()


def _ending(error: BaseException) -> logging.LogRecord:
    """The record of what ended an attempt; a defect has its traceback beside it."""
    about: dict[str, object] = {"levelno": logging.ERROR, "levelname": "ERROR"}
    if isinstance(error, KeyboardInterrupt):
        about |= {"msg": "stopped", "exit_code": Stopped.exit_code}
    elif isinstance(error, RagjobError) and not isinstance(error, Defect):
        about |= {"msg": str(error), "exit_code": error.exit_code}
    else:
        trace = str(error) if isinstance(error, Defect) else "".join(traceback.format_exception(error)).rstrip()
        about |= {"msg": trace.splitlines()[-1], "exit_code": RagjobError.exit_code, "traceback": trace}
    return logging.makeLogRecord(about)
