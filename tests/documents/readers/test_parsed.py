"""The process for parsing: what it is spared, what it may take, and what becomes of a document that ends it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ragjob.documents.readers import parsed
from ragjob.documents.readers.document import Limits
from tests.documents.readers.scripted import Python

LIMITS = Limits(10, 10)


def said(code: str) -> str | None:
    return Python().read_within(code.encode(), LIMITS).text


def error(code: str) -> str:
    document = Python().read_within(code.encode(), LIMITS)
    assert document.text is None
    return document.error or ""


PID = "text = os.getpid()"


def test_one_process_parses_one_document_after_another() -> None:
    assert said(PID) == said(PID) != str(os.getpid())


def test_it_has_neither_ray_nor_torch_and_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    os.kill(int(said(PID) or 0), signal.SIGKILL)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    heavy = '{"ray", "torch", "pyarrow", "numpy", "pydantic", "boto3"}'
    assert said(f"text = {heavy} & {{*sys.modules}}") == "set()"
    assert said("text = 'AWS_SECRET_ACCESS_KEY' in os.environ") == "False"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise Unreadable('save it again')", "save it again"),
        (
            "1 / 0",
            "file is damaged or isn't what its name says (ZeroDivisionError: division by zero); save it again, or l",
        ),
        ("def f(): f()\nf()", "file is damaged or isn't what its name says (RecursionError: maximum recursion depth"),
        ("raise ValueError('\\ud800')", "file is damaged or isn't what its name says (ValueError: ?)"),
    ],
)
def test_what_a_parser_raises_is_the_documents_error(code: str, message: str) -> None:
    before = said(PID)
    assert error(code).startswith(message)
    assert said(PID) == before


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("while True: pass", "parsing it took more than 1 s of CPU time; save it again, split it, or leave it out"),
        ("bytearray(2 * 10**9)", "parsing it took more than 1 GB of memory; "),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "its parser crashed (Segmentation fault), as happens with damaged files",
        ),
        ("os._exit(7)", "its parser crashed (exit code 7), "),
        ("os.kill(os.getpid(), signal.SIGKILL)", "its parser crashed (Killed), "),
        ("time.sleep(600)", "parsing it took more than 2 s; "),
    ],
)
def test_a_document_that_ends_the_process_has_an_error_and_the_next_gets_another(
    monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    before = said(PID)
    with monkeypatch.context() as patched:
        patched.setattr(parsed, "CPU_S", 1)
        patched.setattr(parsed, "WALL", 2 if "sleep" in code else 100)
        assert error(code).startswith(message)
    assert said(PID) not in (before, None)


def test_a_document_whose_process_is_killed_from_outside_is_parsed_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"mark = Path({str(mark)!r})\nif mark.exists(): text = 'done'\nelse: mark.touch(); os.kill(os.getpid(), 9)"
    assert said(code) == "done"


def test_a_process_that_died_while_idle_is_replaced() -> None:
    pid = int(said(PID) or 0)
    os.kill(pid, signal.SIGKILL)
    assert said(PID) != str(pid)


def test_a_forked_process_has_one_of_its_own() -> None:
    before = said(PID)
    child = os.fork()
    if not child:
        os._exit(0 if said(PID) != before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert said(PID) == before


def test_it_ends_with_the_process_that_asks() -> None:
    code = f"from tests.documents.readers.test_parsed import *; print(said({PID!r}), flush=True); time.sleep(600)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as asking:
        assert asking.stdout is not None
        pid = asking.stdout.readline().strip()
        assert Path("/proc", pid).exists()
        asking.kill()
    deadline = time.monotonic() + 20
    while Path("/proc", pid).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path("/proc", pid).exists()
