"""What is killed is taken up again: one row per prompt, whatever died and whenever."""

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from tests.integration.conftest import Job, assert_same, descendants, kill_group, make_job, wait_for_end, wait_until
from tests.mixed import write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.services]


def assert_resumes(job: Job, undisturbed: pa.Table, command: str, **more: object) -> None:
    """Run it again: all is there, nothing is left over, and only what was in hand is computed twice."""
    kept = 4 * len(job.staged)
    ended = job(command, **more)
    assert (ended.code, ended.err) == (0, "")
    assert_same(job.answers(), undisturbed)
    assert job.staged == []
    assert f"{kept} of them kept" in ended.out or not kept or "Already done" in ended.out


def test_a_job_killed_in_mid_answer_is_resumed_and_leaves_no_process(
    job: Job, index: Path, undisturbed: pa.Table
) -> None:
    process = job.start("answer", index__uri=index)
    wait_until(lambda: len(job.staged) >= 3)
    family = descendants(process)
    kill_group(process)
    wait_for_end(family)
    assert_resumes(job, undisturbed, "answer", index__uri=index)


@pytest.mark.soak
def test_a_job_killed_in_mid_index_is_resumed(job: Job, undisturbed: pa.Table) -> None:
    process = job.start("run")
    wait_until(lambda: list((job.folder / "index").glob("segments/*/part-*")))
    kill_group(process)
    assert_resumes(job, undisturbed, "run")


@pytest.mark.soak
def test_a_run_survives_the_kill_of_a_ray_worker_and_of_its_chroma_server(
    job: Job, index: Path, undisturbed: pa.Table
) -> None:
    process = job.start("answer", index__uri=index)
    wait_until(lambda: job.staged)
    family = descendants(process)
    (server,) = [child for child in family if "chroma" in " ".join(child.cmdline())]
    workers = [child for child in family if "MapWorker" in " ".join(child.cmdline())]
    server.kill()
    workers[-1].kill()
    out, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, ""), out
    assert_same(job.answers(), undisturbed)


@pytest.mark.soak
def test_sigterm_stops_with_130_and_one_line_and_keeps_what_is_staged(job: Job, index: Path) -> None:
    process = job.start("answer", index__uri=index)
    wait_until(lambda: job.staged)
    family = descendants(process)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=25)
    assert (process.returncode, len(err.splitlines())) == (130, 1)
    assert job.staged
    wait_for_end(family)


def kill_at_random(job: Job, seed: int) -> None:
    """Start a run and kill it within 45 s, with all that it has started, unless it has ended by then."""
    process = job.start("run")
    seen: list[psutil.Process] = []
    end = time.monotonic() + random.Random(seed).uniform(1, 45)
    while time.monotonic() < end and process.poll() is None:
        seen = descendants(process) or seen
        time.sleep(0.2)
    if process.poll() is None:
        kill_group(process)
    else:
        process.communicate()
    wait_for_end(seen)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(10))
def test_a_job_killed_at_a_random_moment_is_resumed(job: Job, undisturbed: pa.Table, seed: int) -> None:
    kill_at_random(job, seed)
    assert_resumes(job, undisturbed, "run")


def on_all_formats(folder: Path) -> Job:
    """A job on a document of each format, with the sample's prompts."""
    job = make_job(folder)
    (folder / "mixed").mkdir()
    write_corpus(folder / "mixed")
    job.assignments.update({"corpus.uri": folder / "mixed", "corpus.title_column": "title"})
    return job


@pytest.fixture(scope="module")
def of_all_formats(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Answers of such a job that met no trouble."""
    job = on_all_formats(tmp_path_factory.mktemp("formats"))
    ended = job("run")
    assert (ended.code, ended.err) == (0, "")
    return job.answers()


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(4))
def test_a_job_on_all_formats_killed_at_a_random_moment_is_resumed(
    tmp_path: Path, of_all_formats: pa.Table, seed: int
) -> None:
    job = on_all_formats(tmp_path)
    kill_at_random(job, seed)
    assert_resumes(job, of_all_formats, "run")
