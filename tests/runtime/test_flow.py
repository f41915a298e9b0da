import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.data

from ragjob.config import S3
from ragjob.errors import DataError, Defect, DependencyError, EngineDied
from ragjob.runtime.flow import Step, execute
from ragjob.runtime.log import AttemptLog
from ragjob.runtime.progress import Progress, silent
from ragjob.settings import Pool
from ragjob.stages.columns import Stage
from ragjob.stages.cost import Cost
from ragjob.stages.rows import Columns, add_columns, foreign

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]

POOL = Pool(num_cpus=0.1)  # little, since actors of flows that failed may last a while
NUMBERED = pa.schema([("number", pa.int64()), ("error", pa.string())])
BLOCKS = [pa.table({"number": [n, n + 1], "error": pa.array([None, None], pa.string())}) for n in range(0, 8, 2)]


class Mark(Stage):
    """Makes a row with `number` equal to `bad` one with an error."""

    NAME = "mark"
    NEEDS = NUMBERED

    def __init__(self, bad: int) -> None:
        self._bad = bad

    def __call__(self, rows: pa.Table) -> pa.Table:
        errors = ["bad" if number == self._bad else None for number in rows["number"].to_pylist()]
        return rows.set_column(1, "error", pa.array(errors, pa.string()))


class Read(Mark):
    NAME = "read"


class Write(Stage):
    """Puts each block into a file of its own."""

    NAME = "write"
    NEEDS = NUMBERED

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, rows: pa.Table) -> pa.Table:
        (self._folder / str(rows["number"][0])).write_text(str(rows["number"].to_pylist()))
        return rows.select(["error"])


class Dawdle(Stage):
    NAME = "dawdle"
    NEEDS = NUMBERED

    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(1)
        return rows


class Note(Stage):
    """Writes down something about its process."""

    NAME = "note"
    NEEDS = NUMBERED


class NoteCollecting(Note):
    """Notes whether garbage is collected where it is made, and where it runs."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "notes"
        self._made = gc.isenabled()

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._note.write_text(f"{self._made} {gc.isenabled()}")
        return rows


class NoteVariable(Note):
    """Notes what a variable of its process's environment says."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "variable"

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._note.write_text(os.environ.get("RAGJOB_TEST_VARIABLE", ""))
        return rows


class NoteGpus(Note):
    """Notes how much of a GPU is reserved for its process."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "gpus"

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._note.write_text(f"{ray.get_runtime_context().get_assigned_resources().get('GPU', 0):g}")
        return rows


class Fail(Stage):
    NAME = "fail"
    NEEDS = NUMBERED

    def __init__(self, error: Exception, folder: Path | None = None) -> None:
        self._error = error
        self._folder = folder

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self._folder:
            (self._folder / f"{time.monotonic_ns()}").write_text(str(os.getpid()))
        raise self._error


class Die(Stage):
    """Takes its process along, each time."""

    NAME = "die"
    NEEDS = NUMBERED

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, rows: pa.Table) -> pa.Table:
        (self._folder / f"{time.monotonic_ns()}").touch()
        os._exit(1)


class Crash(Stage):
    """Ends its process as native code does that finds something wrong, or is wrong."""

    NAME = "crash"
    NEEDS = NUMBERED

    def __init__(self, crash: Callable[[], object]) -> None:
        self._crash = crash

    def __call__(self, rows: pa.Table) -> pa.Table:
        os.write(2, b"native.cc:7: there is no such device\n")
        self._crash()
        return rows


class Halve(Stage):
    """Adds half of each number; a library fails at odd ones."""

    NAME = "halve"
    NEEDS = NUMBERED
    ADDS = pa.schema([("half", pa.int64())])

    def __call__(self, rows: pa.Table) -> pa.Table:
        return add_columns(rows.append_column("prompt_id", rows["number"].cast(pa.string())), self.ADDS, self._compute)

    def _compute(self, rows: pa.Table) -> Columns:
        numbers = rows["number"].to_pylist()
        with foreign():
            if any(number % 2 for number in numbers):
                raise KeyError("odd")
        return {"half": pa.array([number // 2 for number in numbers])}


class Meet(Stage):
    """Lets a block go on once there are `parties` of them, and then pauses."""

    NAME = "meet"
    NEEDS = NUMBERED
    PAUSE_S = 1

    def __init__(self, parties: int) -> None:
        self._barrier = Barrier(parties)

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._barrier.wait(60)
        time.sleep(self.PAUSE_S)
        return rows


def events(folder: Path) -> list[dict[str, Any]]:
    """What the one log in `folder` has."""
    (file,) = folder.iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def refuse() -> list[Stage]:
    raise DataError("embed.model: no weights")


def test_each_block_goes_through_every_step_and_the_costs_come_back(tmp_path: Path) -> None:
    steps = [Step([Read], lambda: [Read(3)]), Step([Mark], lambda: [Mark(5)], POOL)]
    steps.append(Step([Write], lambda: [Write(tmp_path)]))
    spent = execute(BLOCKS, steps, 1, S3(), silent)
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["[0, 1]", "[2, 3]", "[4, 5]", "[6, 7]"]
    assert [(cost.stage, cost.rows, cost.errors) for cost in spent] == [("read", 8, 1), ("mark", 8, 1), ("write", 8, 1)]


def test_garbage_is_collected_where_stages_run_not_while_they_are_made(tmp_path: Path) -> None:
    execute(BLOCKS, [Step([NoteCollecting], lambda: [NoteCollecting(tmp_path)], POOL)], 1, S3(), silent)
    assert (tmp_path / "notes").read_text() == "False True"


def test_the_processes_of_a_pool_start_with_their_steps_environment(tmp_path: Path) -> None:
    steps = [
        Step([NoteVariable], lambda: [NoteVariable(tmp_path)], POOL, environment={"RAGJOB_TEST_VARIABLE": "there"})
    ]
    execute(BLOCKS, steps, 1, S3(), silent)
    assert (tmp_path / "variable").read_text() == "there"


@pytest.mark.parametrize("gpus", [0.25, 1])
def test_an_actor_gets_whole_blocks_and_its_share_of_a_gpu(tmp_path: Path, gpus: float) -> None:
    mark = Step([NoteGpus], lambda: [NoteGpus(tmp_path)], Pool(num_cpus=0.1, num_gpus=gpus))
    execute(BLOCKS, [mark, Step([Write], lambda: [Write(tmp_path)])], 1, S3(), silent)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "gpus": f"{gpus:g}",
        **{str(n): f"[{n}, {n + 1}]" for n in range(0, 8, 2)},
    }


def test_progress_ends_with_all_rows_of_each_stage(tmp_path: Path) -> None:
    seen: dict[str, Progress] = {}
    steps = [Step([Mark], lambda: [Mark(5)], POOL), Step([Write], lambda: [Write(tmp_path)])]
    execute(BLOCKS, steps, 1, S3(), lambda progress: seen.update({progress.stage: progress}))
    assert seen == {"mark": Progress("mark", 8, 1.0), "write": Progress("write", 8, 1.0)}


def test_progress_is_told_while_a_flow_runs_and_never_falls(tmp_path: Path) -> None:
    told: list[Progress] = []
    steps = [Step([Dawdle], lambda: [Dawdle()], POOL), Step([Write], lambda: [Write(tmp_path)])]
    execute(BLOCKS, steps, 1, S3(), told.append)
    shares = [progress.share for progress in told if progress.stage == "dawdle"]
    assert {0.25, 0.5, 0.75, 1.0} <= set(shares)
    assert shares == sorted(shares)


def test_nothing_is_told_of_a_flow_after_it_has_failed(tmp_path: Path) -> None:
    told: list[Progress] = []
    steps = [Step([Fail], lambda: [Fail(DataError("torn"))], POOL), Step([Write], lambda: [Write(tmp_path)])]
    with pytest.raises(DataError):
        execute(BLOCKS, steps, 1, S3(), told.append)
    assert [progress for progress in told if progress.share > 0] == []


@pytest.mark.parametrize("pool", [None, POOL], ids=["task", "actor"])
def test_an_error_of_ours_ends_the_flow_as_itself(tmp_path: Path, pool: Pool | None) -> None:
    steps = [
        Step([Fail], lambda: [Fail(DataError("line 3: torn"))], pool),
        Step([Write], lambda: [Write(tmp_path)]),
    ]
    with pytest.raises(DataError, match=r"^line 3: torn$"):
        execute(BLOCKS, steps, 1, S3(), silent)


def test_a_stage_that_cannot_be_made_ends_the_flow_as_itself(tmp_path: Path) -> None:
    steps = [Step([Mark], refuse, POOL), Step([Write], lambda: [Write(tmp_path)])]
    with pytest.raises(DataError, match=r"^embed.model: no weights$"):
        execute(BLOCKS, steps, 1, S3(), silent)


@pytest.mark.parametrize("pool", [None, POOL], ids=["task", "actor"])
def test_an_error_that_isnt_ours_ends_the_flow_as_a_defect_with_its_traceback(
    tmp_path: Path, pool: Pool | None
) -> None:
    steps = [Step([Fail], lambda: [Fail(ValueError("what\nnow"))], pool), Step([Write], lambda: [Write(tmp_path)])]
    with pytest.raises(Defect) as defect:
        execute(BLOCKS, steps, 1, S3(), silent)
    lines = str(defect.value).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-4:] == [lines[-4], "    raise self._error", "ValueError: what", "now"]
    assert "test_flow.py" in lines[-4]
    assert defect.value.exit_code == 1


def test_an_error_that_isnt_ours_while_a_stage_is_made_is_a_defect(tmp_path: Path) -> None:
    steps = [Step([Mark], lambda: [Mark(**{"worst": 5})], POOL), Step([Write], lambda: [Write(tmp_path)])]
    with pytest.raises(Defect, match=r"(?s)^Traceback.*TypeError: Mark.__init__\(\) got an unexpected keyword arg.*$"):
        execute(BLOCKS, steps, 1, S3(), silent)


def test_stages_that_dont_fit_together_are_refused_before_ray_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it fails
    with pytest.raises(
        TypeError, match=r"^stage write needs column 'number' \(int64\), which no stage before it adds$"
    ):
        execute([pa.table({"error": ["x"]})], [Step([Write], lambda: [])], 1, S3(), silent)


def test_the_first_fault_of_each_kind_in_each_stage_is_kept_in_the_attempts_log(tmp_path: Path) -> None:
    steps = [Step([Halve], lambda: [Halve()], POOL), Step([Write], lambda: [Write(tmp_path)])]
    with AttemptLog(str(tmp_path / "log")):
        halved, _ = execute(BLOCKS, steps, 1, S3(), silent)
    (event,) = events(tmp_path / "log")
    assert (halved.rows, halved.errors) == (8, 4)
    assert (event["level"], event["stage"], event["row"], event["error"]) == (
        "warning",
        "halve",
        "1",
        "KeyError: 'odd'",
    )
    assert 'raise KeyError("odd")' in event["traceback"]


def test_a_flow_that_doesnt_move_is_given_up_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragjob.runtime.flow.NO_PROGRESS_S", 0.2)
    steps = [Step([Dawdle], lambda: [Dawdle()], POOL), Step([Write], lambda: [Write(tmp_path)])]
    with pytest.raises(DependencyError, match=r"^Ray: ExecutionTimeoutError: .* made no progress .*; its traceback"):
        execute(BLOCKS, steps, 1, S3(), silent)


@pytest.mark.parametrize("pool", [None, POOL], ids=["task", "actor"])
def test_a_block_that_kills_its_worker_is_given_up_in_the_end(tmp_path: Path, pool: Pool | None) -> None:
    steps = [Step([Die], lambda: [Die(tmp_path)], pool), Step([Write], lambda: [Write(tmp_path)])]
    with pytest.raises(DependencyError, match=r"^Ray: the worker died each time it tried one block.*: give workers"):
        execute(BLOCKS[:1], steps, 1, S3(), silent)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    ("pool", "crash", "signal"),
    [
        (None, os.abort, "Fatal Python error: Aborted"),
        (POOL, lambda: ctypes.string_at(0), "Fatal Python error: Segmentation fault"),
    ],
    ids=["task-abort", "actor-segfault"],
)
def test_what_a_worker_wrote_to_stderr_before_it_crashed_is_kept_in_the_attempts_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], pool: Pool | None, crash: Callable[[], object], signal: str
) -> None:
    steps = [Step([Crash], lambda: [Crash(crash)], pool, retries=0), Step([Write], lambda: [Write(tmp_path)])]
    with (
        pytest.raises(DependencyError, match=r"^Ray: the worker died each time it tried one block"),
        AttemptLog(str(tmp_path / "log")),
    ):
        execute(BLOCKS[:1], steps, 1, S3(), silent)
    *deaths, _ = events(tmp_path / "log")
    lines = deaths[-1]["stderr"].splitlines()
    assert lines[0] == "native.cc:7: there is no such device"
    assert signal in lines
    assert any("test_flow.py" in line and line.endswith("in __call__") for line in lines)
    assert "native.cc" not in "".join(capfd.readouterr())


def test_an_engine_that_died_takes_its_worker_along_and_its_reason_ends_the_flow(tmp_path: Path) -> None:
    steps = [
        Step([Fail], lambda: [Fail(EngineDied("vLLM died of that"), tmp_path)], POOL, retries=1),
        Step([Write], lambda: [Write(tmp_path)]),
    ]
    with pytest.raises(DependencyError, match=r"^Ray: the worker .* each time it tried one block: vLLM died of that$"):
        execute(BLOCKS[:1], steps, 1, S3(), silent)
    assert len({file.read_text() for file in tmp_path.iterdir()}) == 2  # processes


def test_an_actor_that_takes_several_blocks_has_them_at_once(tmp_path: Path) -> None:
    steps = [Step([Meet], lambda: [Meet(2)], POOL, at_once=2), Step([Write], lambda: [Write(tmp_path)])]
    meeting, _ = execute(BLOCKS, steps, 4, S3(), silent)
    assert (meeting.rows, meeting.errors) == (8, 0)
    assert meeting.seconds < 4 * Meet.PAUSE_S  # of two at once, each second counts once


def test_the_callers_settings_of_ray_data_stay_as_they_are(tmp_path: Path) -> None:
    before = ray.data.DataContext.get_current()
    steps = [Step([Mark], lambda: [Mark(5)], POOL), Step([Write], lambda: [Write(tmp_path)])]
    execute(BLOCKS, steps, 1, S3(), silent)
    assert ray.data.DataContext.get_current() is before
    assert before.target_max_block_size is not None


def test_costs_of_a_stage_are_summed_over_blocks(tmp_path: Path) -> None:
    steps = [Step([Write], lambda: [Write(tmp_path)])]
    (cost,) = execute(BLOCKS, steps, 1, S3(), silent)
    assert cost == Cost("write", 8, 0, pytest.approx(cost.seconds))


def test_a_flow_whose_places_are_taken_first_runs_on_a_ray_without_labels_whatever_group_is_named(
    tmp_path: Path,
) -> None:
    pool = Pool(num_cpus=0.1, group="gpu")
    steps = [Step([Mark], lambda: [Mark(5)], pool, turn=1), Step([Write], lambda: [Write(tmp_path)])]
    marked, written = execute(BLOCKS, steps, 1, S3(), silent)
    assert (marked.rows, written.rows) == (8, 8)
