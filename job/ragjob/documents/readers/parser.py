"""Parses documents for another process, within limits. A program of its own: `parsed.py` starts it and asks it.

Usage: python -m ragjob.documents.readers.parser FD PARENT. It is asked over the socket FD. A request is two messages:
JSON, and a file's content. The reply is a `Document` as JSON, or this process ends. It answers an empty request with
an empty message, once it has started.
"""

import ctypes
import json
import logging
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from ragjob.documents.readers.document import Document, Limits, Unreadable

if TYPE_CHECKING:
    from ragjob.documents.readers.parsed import ParsedReader

MEMORY_BYTES = 10**9  # of addresses, for all that it holds
OUT_OF_MEMORY = 3  # the exit code
MAX_ERROR_CHARS = 200


def main() -> None:
    """Parse what comes until the other side closes the socket, or ends."""
    fd, parent = map(int, sys.argv[1:])
    _end_with(parent)
    _limit()
    connection = Connection(fd)
    try:
        while True:
            request, content = connection.recv_bytes(), connection.recv_bytes()
            connection.send_bytes(_reply(request, content) if request else b"")
            if not request:
                _be_silent()
            del content
    except EOFError:
        pass
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # what it holds may be in any state


def _reply(request: bytes, content: bytes) -> bytes:
    asked = json.loads(request)
    _allow(asked["cpu_s"])
    reader: ParsedReader = resolve_name(asked["reader"])()
    document = _parsed(reader, content, Limits(asked["pages"], asked["chars"]))
    return json.dumps(vars(document), ensure_ascii=False).encode()


def _parsed(reader: "ParsedReader", content: bytes, limits: Limits) -> Document:
    try:
        return reader.parse(content, limits)
    except MemoryError:
        raise
    except Unreadable as error:
        return Document(None, str(error))
    except Exception as error:  # noqa: BLE001 - a parser may raise anything
        what = " ".join(f"{type(error).__name__}: {error}".encode(errors="replace").decode().split())[:MAX_ERROR_CHARS]
        return Document(None, f"file is damaged or isn't what its name says ({what}); save it again, or leave it out")


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit("the process that asks ended before this one began")
    for number in (signal.SIGINT, signal.SIGTERM):  # which reach all processes of a job: it ends when that one does
        signal.signal(number, signal.SIG_IGN)


def _limit() -> None:
    _lower(resource.RLIMIT_AS, MEMORY_BYTES)
    _lower(resource.RLIMIT_CORE, 0)


def _allow(cpu_s: int) -> None:
    """Let this process use that many more seconds of CPU time before the system ends it."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(spent.ru_utime + spent.ru_stime) + 1 + cpu_s)


def _lower(kind: int, limit: int) -> None:
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def _be_silent() -> None:
    """Parsers warn of each odd thing in a file, and crash with pages of explanations."""
    logging.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    main()
