"""Two attempts at one run at the same time: one complete published run, whatever happens to one of them."""

import os
import random
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest

from tests.faults import Fault, Hold, proxy
from tests.integration.conftest import Job, S3Job, assert_same, kill_group, make_job, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(580)]

END_S = 500.0  # two jobs at once, on two cores that do other work besides


@pytest.fixture
def here(tmp_path: Path, index: Path) -> Job:
    """A job on local files, its index made."""
    job = make_job(tmp_path)
    job.assignments["index.uri"] = index
    return job


@pytest.fixture
def there(s3_job: S3Job, index: Path) -> S3Job:
    """The same job on S3."""
    s3_job.bucket.fill("index", index)
    return s3_job


def assert_published_once(job: Job, undisturbed: pa.Table) -> None:
    assert_same(job.answers(), undisturbed)
    assert [name for name in job.outputs() if "_staging" in name or ".tmp" in name] == []


def assert_both_end_well(job: Job, undisturbed: pa.Table, seed: int) -> None:
    first = job.start("answer")
    time.sleep(random.Random(seed).uniform(0, 30))
    second = job.start("answer")
    ends = [job.end(first, END_S), job.end(second, END_S)]
    assert [(end.code, end.err) for end in ends] == [(0, ""), (0, "")]
    assert_published_once(job, undisturbed)


def assert_survives(job: Job, undisturbed: pa.Table, seed: int) -> None:
    moments = random.Random(seed)
    doomed = job.start("answer")
    time.sleep(moments.uniform(0, 20))
    survivor = job.start("answer")
    time.sleep(moments.uniform(5, 40))
    kill_group(doomed)
    ends = [job.end(survivor, END_S), job("answer")]  # what the killed one wrote late is swept by the next one
    assert [(end.code, end.err) for end in ends] == [(0, ""), (0, "")]
    assert "Already done" in ends[1].out
    assert_published_once(job, undisturbed)


@pytest.mark.parametrize("seed", range(5))
def test_two_attempts_at_once_both_end_well(here: Job, undisturbed: pa.Table, seed: int) -> None:
    assert_both_end_well(here, undisturbed, seed)


@pytest.mark.parametrize("seed", range(5))
def test_two_attempts_at_once_on_s3_one_of_them_killed_publish_once(
    there: S3Job, undisturbed: pa.Table, seed: int
) -> None:
    assert_survives(there, undisturbed, seed)
    assert there.bucket.uploads() == []


@pytest.mark.parametrize("seed", range(5))
def test_two_attempts_at_once_on_s3_both_end_well(there: S3Job, undisturbed: pa.Table, seed: int) -> None:
    assert_both_end_well(there, undisturbed, seed)
    assert there.bucket.uploads() == []


@pytest.mark.parametrize("seed", range(5))
def test_two_attempts_at_once_one_of_them_killed_publish_once(here: Job, undisturbed: pa.Table, seed: int) -> None:
    assert_survives(here, undisturbed, seed)


def test_an_attempt_that_sleeps_while_another_publishes_ends_well_and_leaves_nothing(
    here: Job, undisturbed: pa.Table
) -> None:
    sleeper = here.start("answer")
    wait_until(lambda: here.staged)
    os.killpg(sleeper.pid, signal.SIGSTOP)
    other = here("answer")
    os.killpg(sleeper.pid, signal.SIGCONT)
    woken = here.end(sleeper)
    assert [(other.code, other.err), (woken.code, woken.err)] == [(0, ""), (0, "")]
    assert_published_once(here, undisturbed)


def test_an_attempt_whose_parts_are_swept_while_it_reads_them_ends_well(there: S3Job, undisturbed: pa.Table) -> None:
    first = there.start("answer")
    wait_until(lambda: there.staged)
    kill_group(first)
    hold = Hold()
    with proxy(there.bucket.server.endpoint, Fault(hold, on="^GET .*/_staging/.*/part-")) as way:
        late = there.start("answer", s3__endpoint_url=way.url)
        assert hold.arrived.wait(END_S)
        other = there("answer")
        hold.released.set()
        ended = there.end(late, END_S)
    assert [(other.code, other.err), (ended.code, ended.err)] == [(0, ""), (0, "")]
    assert_published_once(there, undisturbed)


def test_other_settings_under_the_same_run_id_are_refused(here: Job) -> None:
    first = here.start("answer", run_id="mine")
    wait_until(lambda: "_staging/mine/identity.json" in here.outputs())
    other = here("answer", run_id="mine", retrieve__top_k=2)
    kill_group(first)
    assert other.code == 4
    assert other.err.startswith("ragjob: run_id: mine was started with other settings or inputs; choose another run_id")
