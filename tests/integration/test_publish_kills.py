"""Attempts that are killed or held up while they publish: the next one ends right, readers see nothing or all."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.conftest import files_below
from tests.integration.attempt import COLUMNS, PART_ROWS, PARTS, TOTAL, rows
from tests.integration.conftest import wait_until

PUBLISHED = ["r1/_manifest.json", "r1/answers.parquet"]
MOMENTS = {
    "before its identity is put": ("os.link", r"identity\.json"),
    "before its last part is put": ("os.link", r"part-000006000"),
    "between its last part and publishing": ("tempfile.mkstemp", r"answers\.parquet"),
    "in the middle of publishing": ("open", r"/part-000006000"),
    "before its answers appear": ("os.link", r"answers\.parquet"),
    "after its answers appeared": ("os.remove", r"_answers\.parquet"),
    "between its answers and their manifest": ("tempfile.mkstemp", r"_manifest\.json"),
    "before its manifest appears": ("os.rename", r"_manifest\.json"),
    "before the sweep": ("os.remove", r"/identity\.json"),
    "in the middle of the sweep": ("os.remove", r"/part-000006000"),
}
at_each_moment = pytest.mark.parametrize(("event", "pattern"), MOMENTS.values(), ids=MOMENTS)


@pytest.fixture(scope="module")
def expected() -> pa.Table:
    return pa.concat_tables([rows(part * PART_ROWS) for part in range(PARTS)]).select(COLUMNS.names)


def start(uri: object, *signal_at: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tests.integration.attempt", *map(str, (uri, *signal_at))])


@contextmanager
def read_all_along(folder: Path) -> Iterator[list[object]]:
    """Read a run's folder in a loop, as any reader would; gives what was seen, each change once."""
    seen: list[object] = []
    ended = Event()

    def look() -> None:
        try:
            rows: object = ds.dataset(folder, format="parquet").count_rows()
        except FileNotFoundError:
            rows = 0
        except (pa.ArrowException, OSError) as error:
            rows = error
        if seen[-1:] != [rows]:
            seen.append(rows)

    def loop() -> None:
        while not ended.wait(0.01):
            look()
        look()

    thread = Thread(target=loop)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@at_each_moment
def test_a_run_killed_at_any_moment_is_ended_by_the_next_attempt(
    tmp_path: Path, expected: pa.Table, event: str, pattern: str
) -> None:
    with read_all_along(tmp_path / "r1") as seen:
        assert start(tmp_path, signal.SIGKILL, event, pattern).wait(60) == -signal.SIGKILL
        assert start(tmp_path).wait(60) == 0
    assert seen == [0, TOTAL]
    assert files_below(tmp_path) == PUBLISHED
    assert pq.read_table(tmp_path).equals(expected)


@at_each_moment
def test_an_attempt_that_wakes_after_another_published_ends_well_and_leaves_nothing(
    tmp_path: Path, expected: pa.Table, event: str, pattern: str
) -> None:
    with read_all_along(tmp_path / "r1") as seen:
        sleeper = start(tmp_path, signal.SIGSTOP, event, pattern)
        wait_until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED)
        assert start(tmp_path).wait(60) == 0
        sleeper.send_signal(signal.SIGCONT)
        assert sleeper.wait(60) == 0
    assert seen == [0, TOTAL]
    assert files_below(tmp_path) == PUBLISHED
    assert pq.read_table(tmp_path).equals(expected)
