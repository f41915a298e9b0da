"""What a job has started and written ends with it, however it ends."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from ragjob.errors import DependencyError
from ragjob.runtime import guard
from ragjob.runtime.orphans import ended_with_this_process
from tests.integration.conftest import alive, wait_until

# Starts a sleeper in a session of its own, whose child sleeps, too, and writes a file; tells their ids and the file's
# folder, then does what it is told.
JOB = """
import os, subprocess, sys, time
from ragjob.runtime.orphans import ended_with_this_process
with ended_with_this_process() as guarded:
    (guarded.folder / "core").write_text("dumped")
    nest = "import subprocess; p = subprocess.Popen(['sleep', '300']); print(p.pid, flush=True); p.wait()"
    environment = os.environ | guarded.mark
    child = subprocess.Popen(
        [sys.executable, "-c", nest], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    print(child.pid, child.stdout.readline().strip(), guarded.folder, flush=True)
    sys.stdin.readline()
"""


def start() -> tuple["subprocess.Popen[str]", list[psutil.Process], Path]:
    job = subprocess.Popen([sys.executable, "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout
    *pids, folder = job.stdout.readline().split()
    family = [psutil.Process(int(pid)) for pid in pids]
    return job, [*family, *psutil.Process(job.pid).children(recursive=True)], Path(folder)


def test_what_a_killed_job_has_started_and_written_ends_with_it() -> None:
    job, family, folder = start()
    assert folder.is_dir()
    job.kill()
    job.communicate()
    wait_until(lambda: not alive(family), seconds=5)
    assert not folder.exists()


def test_what_a_job_has_started_and_left_ends_before_the_job() -> None:
    job, family, folder = start()
    job.communicate("\n")
    assert (job.returncode, alive(family), folder.exists()) == (0, [], False)


def test_the_folder_is_new_empty_and_nobody_elses() -> None:
    with ended_with_this_process() as first, ended_with_this_process() as second:
        assert first.folder != second.folder
        assert list(first.folder.iterdir()) == []
        assert first.folder.stat().st_mode & 0o777 == 0o700


def test_where_no_folder_can_be_made_the_error_names_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/gone")
    with pytest.raises(DependencyError, match=r"^TMPDIR: /gone/.*: No such file"), ended_with_this_process():
        pass
    monkeypatch.setenv("RAY_TMPDIR", "/lost")
    with pytest.raises(DependencyError, match=r"^RAY_TMPDIR: /lost/.*: No such file"), ended_with_this_process():
        pass


def test_the_folder_is_elsewhere_where_its_path_is_too_long_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 10)))
    with ended_with_this_process() as guarded:
        assert guarded.folder.parent == Path("/tmp")


def test_processes_without_the_mark_are_left_alone() -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    with ended_with_this_process():
        pass
    assert bystander.poll() is None
    bystander.kill()
    bystander.communicate()


def test_two_jobs_leave_each_others_processes_alone() -> None:
    with ended_with_this_process() as first:
        other = subprocess.Popen(["sleep", "60"], env=os.environ | first.mark)
        with ended_with_this_process() as second:
            assert second.mark != first.mark
        assert other.poll() is None
    other.communicate(timeout=5)


def test_the_guard_itself_is_gone_at_the_end() -> None:
    with ended_with_this_process():
        (process,) = [child for child in psutil.Process().children() if guard.__file__ in child.cmdline()]
    assert not process.is_running()
