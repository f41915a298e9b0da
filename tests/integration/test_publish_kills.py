"""Attempts that are killed or held up while they publish: the next one ends right, readers see nothing or all."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from tests.conftest import files_below
from tests.faults import Fault, Hold, proxy, stall
from tests.forks import Fork
from tests.integration import attempt
from tests.integration.attempt import COLUMNS, ROWS, TOTAL
from tests.integration.conftest import wait_until
from tests.services import Bucket

NOWHERE = "http://127.0.0.1:9"
PUBLISHED = ["r1/_manifest.json", "r1/answers.parquet"]
# Calls of the operating system, as Python audits them.
ON_DISK = {
    "before its last part is put": ("os.link", r"part-000006000"),
    "between its last part and publishing": ("open", r"_answers\.parquet\.\w+\.tmp"),
    "in the middle of publishing": ("open", r"/part-000006000"),
    "before its answers appear": ("os.link", r"answers\.parquet"),
    "after its answers appeared": ("os.remove", r"_answers\.parquet"),
    "between its answers and their manifest": ("open", r"_manifest\.json\.\w+\.tmp"),
    "before its manifest appears": ("os.rename", r"_manifest\.json"),
    "in the middle of the sweep": ("os.remove", r"/part-000006000"),
}
# Requests of S3.
IN_BUCKET = {
    "before its last part is put": r"^PUT .*/part-000006000",
    "between its last part and publishing": r"^POST .*/answers\.parquet\?uploads",
    "in the middle of the upload": r"^PUT .*/answers\.parquet\?.*partNumber=2",
    "before its answers appear": r"^POST .*/answers\.parquet\?uploadId",
    "between its answers and their manifest": r"^PUT .*/_manifest\.json",
    "at the sweep": r"^POST .*\?delete",
}
on_disk = pytest.mark.parametrize(("event", "pattern"), ON_DISK.values(), ids=ON_DISK)
in_bucket = pytest.mark.parametrize("pattern", IN_BUCKET.values(), ids=IN_BUCKET)


@pytest.fixture(scope="module")
def expected() -> pa.Table:
    return pa.concat_tables(ROWS.values()).select(COLUMNS.names)


@pytest.fixture
def bucket_of(bucket: Bucket) -> Callable[[str], "ds.Dataset"]:
    """Open a folder of the bucket as a dataset."""
    if bucket.server.name == "moto":
        pytest.skip("moto's server isn't made for attempts that overlap")
    keys = {"access_key": bucket.server.access_key, "secret_key": bucket.server.secret_key}
    host = bucket.server.endpoint.removeprefix("http://")
    arrow = pyarrow.fs.S3FileSystem(endpoint_override=host, scheme="http", region=bucket.server.region, **keys)
    return lambda folder: ds.dataset(f"{bucket.name}/{folder}", filesystem=arrow, format="parquet")


def start(uri: object, endpoint: str, signal_at: tuple[int, str, str] | None = None) -> Fork:
    """Start an attempt; `signal_at` as in `attempt.main`."""
    return Fork(attempt.main, str(uri), endpoint, signal_at)


@contextmanager
def read_all_along(opened: Callable[[], "ds.Dataset"]) -> Iterator[list[object]]:
    """Count a run's rows in a loop, as any reader would; gives what was seen, each change once."""
    seen: list[object] = []
    ended = Event()

    def look() -> None:
        try:
            rows: object = opened().count_rows()
        except FileNotFoundError:
            rows = 0
        except (pa.ArrowException, OSError) as error:
            rows = error
        if seen[-1:] != [rows]:
            seen.append(rows)

    def loop() -> None:
        while not ended.wait(0.03):
            look()
        look()

    thread = Thread(target=loop)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@on_disk
def test_a_run_killed_at_any_moment_is_ended_by_the_next_attempt(
    tmp_path: Path, expected: pa.Table, event: str, pattern: str
) -> None:
    with read_all_along(lambda: ds.dataset(tmp_path / "r1", format="parquet")) as seen:
        assert start(tmp_path, NOWHERE, (signal.SIGKILL, event, pattern)).end() == -signal.SIGKILL
        assert start(tmp_path, NOWHERE).end() == 0
    assert seen == [0, TOTAL]
    assert files_below(tmp_path) == PUBLISHED
    assert ds.dataset(tmp_path, format="parquet").to_table().equals(expected)


@on_disk
def test_an_attempt_that_wakes_after_another_published_ends_well_and_leaves_nothing(
    tmp_path: Path, expected: pa.Table, event: str, pattern: str
) -> None:
    with read_all_along(lambda: ds.dataset(tmp_path / "r1", format="parquet")) as seen:
        sleeper = start(tmp_path, NOWHERE, (signal.SIGSTOP, event, pattern))
        wait_until(sleeper.is_stopped)
        assert start(tmp_path, NOWHERE).end() == 0
        sleeper.send(signal.SIGCONT)
        assert sleeper.end() == 0
    assert seen == [0, TOTAL]
    assert files_below(tmp_path) == PUBLISHED
    assert ds.dataset(tmp_path, format="parquet").to_table().equals(expected)


@in_bucket
def test_a_run_killed_at_any_request_is_ended_by_the_next_attempt(
    bucket: Bucket, bucket_of: Callable[[str], "ds.Dataset"], expected: pa.Table, pattern: str
) -> None:
    fault = Fault(stall, on=pattern)
    with read_all_along(lambda: bucket_of("r1")) as seen, proxy(bucket.server.endpoint, fault) as way:
        killed = start(bucket.uri, way.url)
        wait_until(lambda: fault.done)
        killed.send(signal.SIGKILL)
        assert killed.end() == -signal.SIGKILL
        assert start(bucket.uri, bucket.server.endpoint).end() == 0
    assert seen == [0, TOTAL]
    assert (bucket.keys(), bucket.uploads()) == (PUBLISHED, [])
    assert bucket_of("r1").to_table().equals(expected)


@in_bucket
def test_a_request_that_comes_after_another_attempt_published_does_no_harm(
    bucket: Bucket, bucket_of: Callable[[str], "ds.Dataset"], expected: pa.Table, pattern: str
) -> None:
    hold = Hold()
    with read_all_along(lambda: bucket_of("r1")) as seen, proxy(bucket.server.endpoint, Fault(hold, on=pattern)) as way:
        sleeper = start(bucket.uri, way.url)
        assert hold.arrived.wait(60)
        sleeper.send(signal.SIGSTOP)
        assert start(bucket.uri, bucket.server.endpoint).end() == 0
        hold.released.set()
        sleeper.send(signal.SIGCONT)
        assert sleeper.end() == 0
    assert seen == [0, TOTAL]
    assert (bucket.keys(), bucket.uploads()) == (PUBLISHED, [])
    assert bucket_of("r1").to_table().equals(expected)


def overlap(uri: object, endpoint: str, seed: int) -> list[int | None]:
    """Two attempts at once, in odd trials one of them killed, then a third; how the others ended."""
    moments = random.Random(seed)
    first = start(uri, endpoint)
    time.sleep(moments.uniform(0, 0.5))
    second = start(uri, endpoint)
    time.sleep(moments.uniform(0, 1))
    killed = [first] * (seed % 2)
    for doomed in killed:
        with suppress(ProcessLookupError):  # it has ended by itself
            doomed.send(signal.SIGKILL)
        doomed.end()
    others = [writer for writer in (first, second) if writer not in killed]
    return [writer.end() for writer in [*others, start(uri, endpoint)]]


seeds = pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(n, marks=pytest.mark.soak) for n in range(3, 20))])


@seeds
def test_attempts_that_overlap_publish_one_run(tmp_path: Path, expected: pa.Table, seed: int) -> None:
    with read_all_along(lambda: ds.dataset(tmp_path / "r1", format="parquet")) as seen:
        ends = overlap(tmp_path, NOWHERE, seed)
    assert (set(ends), seen) == ({0}, [0, TOTAL])
    assert files_below(tmp_path) == PUBLISHED
    assert ds.dataset(tmp_path, format="parquet").to_table().equals(expected)


@seeds
def test_attempts_that_overlap_in_a_bucket_publish_one_run(
    bucket: Bucket, bucket_of: Callable[[str], "ds.Dataset"], expected: pa.Table, seed: int
) -> None:
    with read_all_along(lambda: bucket_of("r1")) as seen:
        ends = overlap(bucket.uri, bucket.server.endpoint, seed)
    assert (set(ends), seen) == ({0}, [0, TOTAL])
    assert (bucket.keys(), bucket.uploads()) == (PUBLISHED, [])
    assert bucket_of("r1").to_table().equals(expected)
