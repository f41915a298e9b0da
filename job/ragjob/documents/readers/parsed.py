"""Formats whose parsers can be made to crash, to hang or to fill the memory: they run in a process of their own."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from abc import abstractmethod
from multiprocessing.connection import Pipe
from typing import Any

from ragjob.documents.readers import parser
from ragjob.documents.readers.document import DEFAULT_LIMITS, Block, Document, DocumentReader, Kind, Limits
from ragjob.errors import DependencyError

CPU_S = 60  # that a document may take, and a second more for each so many bytes
BYTES_A_S = 100_000
WALL = 10  # times as long by the clock: the machine may have other work
START_S = 120.0
TRIES = 2  # for a document whose process was killed from outside
# All that a parser needs of the environment: it has no use for credentials.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
REMEDY = "save it again, split it, or leave it out"

_one_at_a_time = threading.Lock()
_processes: dict[int, "_Process"] = {}  # that which parses for this process, by this one's id: it may be forked


class ParsedReader(DocumentReader):
    """A format whose files are documents and are parsed in a process of their own.

    The process has neither Ray nor PyTorch. It parses one document after another, and ends with this process. If a
    document takes more memory or time than is allowed, or makes the parser crash, the process ends with that document,
    whose error says so, and the next document gets another.
    """

    @abstractmethod
    def parse(self, content: bytes, limits: Limits) -> Document:
        """What a file holds. It runs in the process for parsing, and raises `Unreadable` or anything else."""

    def read(self, content: bytes) -> Document:
        return self.read_within(content, DEFAULT_LIMITS)

    def read_within(self, content: bytes, limits: Limits) -> Document:
        cpu_s = CPU_S + len(content) // BYTES_A_S
        name = f"{type(self).__module__}:{type(self).__qualname__}"
        request = json.dumps({"reader": name, "cpu_s": cpu_s, "pages": limits.pages, "chars": limits.chars}).encode()
        with _one_at_a_time:
            for _ in range(TRIES):
                reply = _process().ask(request, content, WALL * cpu_s)
                if isinstance(reply, bytes):
                    return _document(json.loads(reply))
                fault = _fault(reply, cpu_s)
                if reply != -signal.SIGKILL:
                    break
        return Document(None, fault)


class _Process:
    """A process that parses."""

    def __init__(self) -> None:
        from ragjob.settings import FAMILY  # not above: it takes a second, and parsers import this module

        self._connection, theirs = Pipe()
        environment = {name: os.environ[name] for name in (*ENVIRONMENT, FAMILY) if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", parser.__name__, str(theirs.fileno()), str(os.getpid())],
            env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        if self.ask(b"", b"", START_S) != b"":
            self.end()
            raise DependencyError("the process that parses documents doesn't start; the log of the worker says why")

    def ask(self, request: bytes, content: bytes, wall_s: float) -> bytes | int | None:
        """The reply to a request, or else how the process ended: its exit code, or None for one that took too long."""
        try:
            self._connection.send_bytes(request)
            self._connection.send_bytes(content)
            if self._connection.poll(wall_s):
                return self._connection.recv_bytes()
        except (EOFError, OSError):
            return self.end()
        self.end()
        return None

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> int:
        """Kill it, unless it has ended, and give its exit code."""
        self._connection.close()
        self._process.kill()
        return self._process.wait()


def _process() -> _Process:
    """The process that parses for this one: a new one, if the last has ended."""
    process = _processes.get(os.getpid())
    if process is None or not process.is_running():
        process = _processes[os.getpid()] = _Process()
    return process


@atexit.register
def _end() -> None:
    if process := _processes.pop(os.getpid(), None):
        process.end()


def _document(reply: dict[str, Any]) -> Document:
    blocks = [Block(start, Kind(kind), level, page) for start, kind, level, page in reply.pop("blocks")]
    return Document(**reply, blocks=blocks)


def _fault(code: int | None, cpu_s: int) -> str:
    """Why a document ended the process, by its exit code."""
    match code:
        case None:
            return f"parsing it took more than {WALL * cpu_s:,} s; {REMEDY}"
        case parser.OUT_OF_MEMORY:
            return f"parsing it took more than {parser.MEMORY_BYTES / 1e9:.0f} GB of memory; {REMEDY}"
    if -code == signal.SIGXCPU:
        return f"parsing it took more than {cpu_s:,} s of CPU time; {REMEDY}"
    cause = signal.strsignal(-code) if code < 0 else f"exit code {code}"
    return f"its parser crashed ({cause}), as happens with damaged files and when memory runs out; {REMEDY}"
