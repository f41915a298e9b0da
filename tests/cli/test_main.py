"""What the program exits with, and what it says on stderr."""

import subprocess
import sys

import pytest

from ragjob.cli.main import REPORT_IT
from ragjob.errors import DataError, Defect, DependencyError, RagjobError, SettingsError, Stopped, TooManyFailures
from tests.cli.conftest import Doing, Ragjob


@pytest.mark.parametrize("kind", [SettingsError, DependencyError, DataError, TooManyFailures, Stopped])
def test_an_error_of_ours_is_one_line_with_its_own_exit_code(
    ragjob: Ragjob, doing: Doing, kind: type[RagjobError]
) -> None:
    doing(error=kind("corpus.uri: nothing\n  there"))
    assert ragjob("run") == (kind.exit_code, "ragjob: corpus.uri: nothing there\n")


def test_the_exit_codes_are_the_designs() -> None:
    kinds = [Defect, SettingsError, DependencyError, DataError, TooManyFailures, Stopped]
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5, 130]


def test_an_error_that_isnt_ours_shows_its_traceback_and_asks_for_a_report(ragjob: Ragjob, doing: Doing) -> None:
    doing(error=ZeroDivisionError("a bug"))
    code, said = ragjob("run")
    first, *_, last, request = said.splitlines()
    assert (code, first, last) == (1, "Traceback (most recent call last):", "ZeroDivisionError: a bug")
    assert request == REPORT_IT


def test_a_defect_in_a_worker_shows_its_traceback_as_it_is(ragjob: Ragjob, doing: Doing) -> None:
    doing(error=Defect('Traceback:\n  File "stage.py"\nKeyError: 1'))
    assert ragjob("run") == (1, f'Traceback:\n  File "stage.py"\nKeyError: 1\n{REPORT_IT}\n')


def test_an_interrupt_says_how_to_go_on(ragjob: Ragjob, doing: Doing) -> None:
    doing(error=KeyboardInterrupt())
    stopped = "ragjob: stopped; finished work is kept, so run the same command again to resume\n"
    assert ragjob("run") == (130, stopped)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["walk"], "No such command 'walk'; `ragjob --help` shows the usage"),
        (["run", "--fast"], "No such option: --fast"),
        (["run", "--set"], "Option '--set' requires an argument; `ragjob --help` shows the usage"),
        (["plan", "--command", "walk"], "Invalid value for '--command': "),
        (["run", "--set", "chunk.sise=3"], "chunk.sise: unknown setting; did you mean chunk.size"),
        (["run", "--config", "none.yaml"], "none.yaml: can't be read"),
        (["run"], "corpus.uri: required by `run`; set it in job.yaml or with --set corpus.uri=..."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_2(ragjob: Ragjob, arguments: list[str], said: str) -> None:
    code, told = ragjob(*arguments)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith(f"ragjob: {said}")


# As a process

NOISY = """
import os, signal, sys
from ragjob.cli import main as cli
from ragjob.commands.registry import COMMANDS
from ragjob.errors import DataError
class Noisy:
    def of(self, settings):
        return self
    def execute(self, observe):
        os.write(2, b"noise of native code")
        print("noise of a library", file=sys.stderr)
        {ending}
COMMANDS["run"] = Noisy()
sys.argv = ["ragjob", "run", "--quiet"]
cli.main()
"""


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("raise DataError('corpus.uri: gone')", 4, "ragjob: corpus.uri: gone\n"),
        (
            "os.kill(os.getpid(), signal.SIGTERM)",
            130,
            "ragjob: stopped; finished work is kept, so run the same command",
        ),
    ],
    ids=["an error", "SIGTERM"],
)
def test_stderr_has_one_line_of_ours_whatever_libraries_write_there(ending: str, code: int, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NOISY.format(ending=ending)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1)
    assert ended.stderr.startswith(said)


def test_python_m_ragjob_is_ragjob() -> None:
    ended = subprocess.run([sys.executable, "-m", "ragjob", "walk"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "ragjob: No such command 'walk'; `ragjob --help` shows the usage\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "{}"],
        ["{}"],
        ["run", "--config", "{}"],
        ["plan", "--command", "{}"],
        ["submit", "{}"],
        ["run", "--set", "{}"],
    ],
    ids=" ".join,
)
def test_an_address_on_the_command_line_is_shown_without_its_password(ragjob: Ragjob, arguments: list[str]) -> None:
    code, told = ragjob(*(argument.format("http://me:s3cr3t@host/") for argument in arguments))
    assert (code in (2, 4), "s3cr3t" in told) == (True, False)
