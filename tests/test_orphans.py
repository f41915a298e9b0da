import os
import subprocess
import sys

import psutil

from job import orphans
from job.orphans import MARK, ended_with_this_process
from tests.integration.conftest import alive, wait_until

# Starts a sleeper in a session of its own, whose child sleeps, too; tells their ids, then does what it is told.
JOB = """
import os, subprocess, sys, time
from job.orphans import ended_with_this_process
with ended_with_this_process() as mark:
    nest = "import subprocess; p = subprocess.Popen(['sleep', '300']); print(p.pid, flush=True); p.wait()"
    child = subprocess.Popen(
        [sys.executable, "-c", nest], env=os.environ | mark, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    print(child.pid, child.stdout.readline().strip(), flush=True)
    sys.stdin.readline()
"""


def start() -> tuple["subprocess.Popen[str]", list[psutil.Process]]:
    job = subprocess.Popen([sys.executable, "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout
    family = [psutil.Process(int(pid)) for pid in job.stdout.readline().split()]
    return job, [*family, *psutil.Process(job.pid).children(recursive=True)]


def test_what_a_killed_job_has_started_ends_with_it() -> None:
    job, family = start()
    job.kill()
    job.communicate()
    wait_until(lambda: not alive(family), seconds=5)


def test_what_a_job_has_started_and_left_ends_before_the_job() -> None:
    job, family = start()
    job.communicate("\n")
    assert (job.returncode, alive(family)) == (0, [])


def test_processes_without_the_mark_are_left_alone() -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    with ended_with_this_process():
        pass
    assert bystander.poll() is None
    bystander.kill()
    bystander.communicate()


def test_two_jobs_leave_each_others_processes_alone() -> None:
    with ended_with_this_process() as mark:
        other = subprocess.Popen(["sleep", "60"], env=os.environ | mark)
        with ended_with_this_process() as second:
            assert second[MARK] != mark[MARK]
        assert other.poll() is None
    other.communicate(timeout=5)


def test_the_guard_itself_is_gone_at_the_end() -> None:
    with ended_with_this_process():
        (guard,) = [each for each in psutil.Process().children() if each.cmdline()[-2:-1] == [orphans.__file__]]
    assert not guard.is_running()
