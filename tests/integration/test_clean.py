"""`ragjob clean` beside a run that isn't finished: what that still needs stays, and it ends as if nothing was."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from tests.forks import ragjob
from tests.integration.conftest import Job, S3Job, assert_same, kill_group, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(580)]


MIDDLE, NEWEST = "middle", "newest"


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Path:
    """An index of three versions, of which that of `index` is the oldest."""
    folder = Path(shutil.copytree(index, tmp_path_factory.mktemp("aged") / "index"))
    for name, created in ((MIDDLE, "3001"), (NEWEST, "3002")):
        copy = Path(shutil.copytree(folder / "versions" / oldest_of(index), folder / "versions" / name))
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(manifest | {"version": name, "created": created}))
    (folder / "current.json").write_text(json.dumps({"version": NEWEST}))
    return folder


def oldest_of(index: Path) -> str:
    return str(json.loads((index / "current.json").read_text())["version"])


def clean(job: Job) -> list[str]:
    """Remove all but the newest version and what is needed; the names of what has gone."""
    ended = ragjob(*job.arguments("clean", keep__versions=1), "--yes")
    job.said.append(ended.out + ended.err)
    *lines, count = ended.out.splitlines()
    assert count == f"{len(lines)} removed"
    return [line.split("  ")[-1].partition(": ")[0].rpartition("/")[2] for line in lines]


def assert_ends_though_cleaned(job: Job, oldest: str, undisturbed: pa.Table) -> None:
    """A run from the oldest of three versions loses neither that nor what it staged: while it runs, nor when killed."""
    process = job.start("answer", index__version=oldest)
    wait_until(lambda: len(job.staged) >= 3)
    assert clean(job) == [MIDDLE]
    kill_group(process)
    kept = 4 * len(job.staged)
    assert clean(job) == []
    ended = job("answer", index__version=oldest)
    assert (ended.code, ended.err) == (0, "")
    assert f"{kept} of them kept" in ended.out
    assert_same(job.answers(), undisturbed)
    outputs = job.outputs()
    assert clean(job) == [oldest]
    assert job.outputs() == outputs


def test_a_run_on_disk_ends_though_all_else_is_cleaned(
    job: Job, index: Path, aged: Path, undisturbed: pa.Table
) -> None:
    shutil.copytree(aged, job.folder / "index")
    assert_ends_though_cleaned(job, oldest_of(index), undisturbed)


def test_a_run_on_s3_ends_though_all_else_is_cleaned(
    s3_job: S3Job, index: Path, aged: Path, undisturbed: pa.Table
) -> None:
    s3_job.bucket.fill("index", aged)
    assert_ends_though_cleaned(s3_job, oldest_of(index), undisturbed)
