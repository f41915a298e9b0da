import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ragjob.errors import DependencyError
from ragjob.runtime.home import settle_home

STRANGER = 54_321  # a user id without an entry in the system's list
SETTLE = (
    "import getpass; from ragjob.runtime.home import settle_home; settle_home(); "
    "from pathlib import Path; (Path.home() / 'kept').write_text('x'); print(Path.home(), getpass.getuser())"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands in for a home, inside this test's temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"ragjob-home-{os.getuid()}"


def test_a_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settle_home()
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.parametrize("home", ["/", "//", "", "relative", "/proc", "/no/such/folder"])
def test_a_home_that_wont_do_gives_way_to_a_private_folder_that_is_named(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, home: str
) -> None:
    monkeypatch.setenv("HOME", home)
    settle_home()
    assert os.environ["HOME"] == str(temporary)
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    assert [record.in_its_place for record in caplog.records] == [str(temporary)]


def test_the_folder_is_the_same_for_later_jobs(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    settle_home()
    (temporary / "model").touch()
    monkeypatch.setenv("HOME", "/")
    settle_home()
    assert (temporary / "model").exists()


def test_a_folder_that_others_may_write_or_a_link_is_not_taken(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/")
    temporary.mkdir()
    temporary.chmod(0o777)
    with pytest.raises(DependencyError, match=r"^HOME: .* isn't private to this user; set HOME to a writable folder"):
        settle_home()
    temporary.rmdir()
    temporary.symlink_to(tmp_path)
    with pytest.raises(DependencyError, match=r"^HOME: .* isn't private to this user; set HOME to a writable folder"):
        settle_home()


@pytest.fixture
def stranger() -> list[str]:
    """How to run a command as `STRANGER`."""
    drop = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    if not shutil.which("setpriv") or subprocess.run([*drop, sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("needs root, setpriv, and a Python that other users may run")
    return drop


@pytest.mark.parametrize("variables", [{}, {"HOME": "/"}, {"HOME": "/root"}], ids=["unset", "root", "another's"])
def test_a_user_without_a_name_or_a_home_gets_both(stranger: list[str], variables: dict[str, str]) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)} | variables
    python = [*stranger, sys.executable, "-c", SETTLE]
    settled = subprocess.run(python, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert settled.stdout == f"/tmp/ragjob-home-{STRANGER} uid-{STRANGER}\n", settled.stderr
    shutil.rmtree(f"/tmp/ragjob-home-{STRANGER}")
