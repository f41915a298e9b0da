import gc
import os
import time
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
import ray
import ray.data

from job.cluster import Resources, running
from job.config import S3, Pool
from job.errors import DataError, DependencyError, EngineDied
from job.execution import Stage, Step, execute
from job.progress import Progress, silent
from job.stages.rows import Cost

pytestmark = pytest.mark.ray

POOL = Pool(num_cpus=0.1)  # little, since actors of flows that failed may last a while
BLOCKS = [pa.table({"number": [n, n + 1], "error": pa.array([None, None], pa.string())}) for n in range(0, 8, 2)]


@pytest.fixture(scope="module", autouse=True)
def started() -> object:
    with running(Resources(2, 1, 1, None)):  # one GPU, which is pretended: Ray only counts it
        yield


class Mark:
    """Makes a row with `number` equal to `bad` one with an error."""

    def __init__(self, bad: int) -> None:
        self._bad = bad

    def __call__(self, rows: pa.Table) -> pa.Table:
        errors = ["bad" if number == self._bad else None for number in rows["number"].to_pylist()]
        return rows.set_column(1, "error", pa.array(errors, pa.string()))


class Write:
    """Puts each block into a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, rows: pa.Table) -> pa.Table:
        (self._folder / str(rows["number"][0])).write_text(str(rows["number"].to_pylist()))
        return rows.select(["error"])


class Dawdle:
    def __call__(self, rows: pa.Table) -> pa.Table:
        time.sleep(1)
        return rows


class NoteCollecting:
    """Notes whether garbage is collected where it is made, and where it runs."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "notes"
        self._made = gc.isenabled()

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._note.write_text(f"{self._made} {gc.isenabled()}")
        return rows


class NoteVariable:
    """Notes what a variable of its process's environment says."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "variable"

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._note.write_text(os.environ.get("RAGJOB_TEST_VARIABLE", ""))
        return rows


class NoteGpus:
    """Notes how much of a GPU is reserved for its process."""

    def __init__(self, folder: Path) -> None:
        self._note = folder / "gpus"

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._note.write_text(f"{ray.get_runtime_context().get_assigned_resources().get('GPU', 0):g}")
        return rows


class Fail:
    def __init__(self, error: Exception, folder: Path | None = None) -> None:
        self._error = error
        self._folder = folder

    def __call__(self, rows: pa.Table) -> pa.Table:
        if self._folder:
            (self._folder / f"{time.monotonic_ns()}").write_text(str(os.getpid()))
        raise self._error


class Die:
    """Takes its process along, each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, rows: pa.Table) -> pa.Table:
        (self._folder / f"{time.monotonic_ns()}").touch()
        os._exit(1)


class Meet:
    """Lets a block go on once there are `parties` of them, and then pauses."""

    PAUSE_S = 1

    def __init__(self, parties: int) -> None:
        self._barrier = Barrier(parties)

    def __call__(self, rows: pa.Table) -> pa.Table:
        self._barrier.wait(60)
        time.sleep(self.PAUSE_S)
        return rows


def refuse() -> list[Stage]:
    raise DataError("embed.model: no weights")


def test_each_block_goes_through_every_step_and_the_costs_come_back(tmp_path: Path) -> None:
    steps = [Step(["read"], lambda: [Mark(3)]), Step(["mark"], lambda: [Mark(5)], POOL)]
    steps.append(Step(["write"], lambda: [Write(tmp_path)]))
    spent = execute(BLOCKS, steps, 1, S3(), silent)
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["[0, 1]", "[2, 3]", "[4, 5]", "[6, 7]"]
    assert [(cost.stage, cost.rows, cost.errors) for cost in spent] == [("read", 8, 1), ("mark", 8, 1), ("write", 8, 1)]


def test_garbage_is_collected_where_stages_run_not_while_they_are_made(tmp_path: Path) -> None:
    execute(BLOCKS, [Step(["write"], lambda: [NoteCollecting(tmp_path)], POOL)], 1, S3(), silent)
    assert (tmp_path / "notes").read_text() == "False True"


def test_the_processes_of_a_pool_start_with_their_steps_environment(tmp_path: Path) -> None:
    steps = [Step(["write"], lambda: [NoteVariable(tmp_path)], POOL, environment={"RAGJOB_TEST_VARIABLE": "there"})]
    execute(BLOCKS, steps, 1, S3(), silent)
    assert (tmp_path / "variable").read_text() == "there"


@pytest.mark.parametrize("gpus", [0, 0.25, 1])
def test_an_actor_gets_whole_blocks_and_its_share_of_a_gpu(tmp_path: Path, gpus: float) -> None:
    mark = Step(["mark"], lambda: [NoteGpus(tmp_path)], Pool(num_cpus=0.1, num_gpus=gpus))
    execute(BLOCKS, [mark, Step(["write"], lambda: [Write(tmp_path)])], 1, S3(), silent)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "gpus": f"{gpus:g}",
        **{str(n): f"[{n}, {n + 1}]" for n in range(0, 8, 2)},
    }


def test_progress_ends_with_all_rows_of_each_stage(tmp_path: Path) -> None:
    seen: dict[str, Progress] = {}
    steps = [Step(["mark"], lambda: [Mark(5)], POOL), Step(["write"], lambda: [Write(tmp_path)])]
    execute(BLOCKS, steps, 1, S3(), lambda progress: seen.update({progress.stage: progress}))
    assert seen == {"mark": Progress("mark", 8, 1.0), "write": Progress("write", 8, 1.0)}


def test_progress_is_told_while_a_flow_runs_and_never_falls(tmp_path: Path) -> None:
    told: list[Progress] = []
    steps = [Step(["dawdle"], lambda: [Dawdle()], POOL), Step(["write"], lambda: [Write(tmp_path)])]
    execute(BLOCKS, steps, 1, S3(), told.append)
    shares = [progress.share for progress in told if progress.stage == "dawdle"]
    assert {0.25, 0.5, 0.75, 1.0} <= set(shares)
    assert shares == sorted(shares)


def test_nothing_is_told_of_a_flow_after_it_has_failed(tmp_path: Path) -> None:
    told: list[Progress] = []
    steps = [Step(["fail"], lambda: [Fail(DataError("torn"))], POOL), Step(["write"], lambda: [Write(tmp_path)])]
    with pytest.raises(DataError):
        execute(BLOCKS, steps, 1, S3(), told.append)
    assert [progress for progress in told if progress.share > 0] == []


@pytest.mark.parametrize("pool", [None, POOL], ids=["task", "actor"])
def test_an_error_of_ours_ends_the_flow_as_itself(tmp_path: Path, pool: Pool | None) -> None:
    steps = [
        Step(["mark"], lambda: [Fail(DataError("line 3: torn"))], pool),
        Step(["write"], lambda: [Write(tmp_path)]),
    ]
    with pytest.raises(DataError, match=r"^line 3: torn$"):
        execute(BLOCKS, steps, 1, S3(), silent)


def test_a_stage_that_cannot_be_made_ends_the_flow_as_itself(tmp_path: Path) -> None:
    steps = [Step(["mark"], refuse, POOL), Step(["write"], lambda: [Write(tmp_path)])]
    with pytest.raises(DataError, match=r"^embed.model: no weights$"):
        execute(BLOCKS, steps, 1, S3(), silent)


def test_an_error_that_isnt_ours_is_told_in_one_line(tmp_path: Path) -> None:
    steps = [Step(["mark"], lambda: [Fail(ValueError("what\nnow"))], POOL), Step(["write"], lambda: [Write(tmp_path)])]
    with pytest.raises(DependencyError, match=r"^Ray: ValueError: what; its traceback is in Ray's logs$"):
        execute(BLOCKS, steps, 1, S3(), silent)


def test_a_flow_that_doesnt_move_is_given_up_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.execution.NO_PROGRESS_S", 0.2)
    steps = [Step(["dawdle"], lambda: [Dawdle()], POOL), Step(["write"], lambda: [Write(tmp_path)])]
    with pytest.raises(DependencyError, match=r"^Ray: ExecutionTimeoutError: .* made no progress .*; its traceback"):
        execute(BLOCKS, steps, 1, S3(), silent)


@pytest.mark.parametrize("pool", [None, POOL], ids=["task", "actor"])
def test_a_block_that_kills_its_worker_is_given_up_in_the_end(tmp_path: Path, pool: Pool | None) -> None:
    steps = [Step(["mark"], lambda: [Die(tmp_path)], pool), Step(["write"], lambda: [Write(tmp_path)])]
    with pytest.raises(DependencyError, match=r"^Ray: the worker of one block died .*: give workers"):
        execute(BLOCKS[:1], steps, 1, S3(), silent)
    assert len(list(tmp_path.iterdir())) == 4


def test_an_engine_that_died_takes_its_worker_along_and_its_reason_ends_the_flow(tmp_path: Path) -> None:
    steps = [
        Step(["mark"], lambda: [Fail(EngineDied("vLLM died of that"), tmp_path)], POOL, retries=1),
        Step(["write"], lambda: [Write(tmp_path)]),
    ]
    with pytest.raises(DependencyError, match=r"^Ray: the worker .* whenever it was tried: vLLM died of that$"):
        execute(BLOCKS[:1], steps, 1, S3(), silent)
    assert len({file.read_text() for file in tmp_path.iterdir()}) == 2  # processes


def test_an_actor_that_takes_several_blocks_has_them_at_once(tmp_path: Path) -> None:
    steps = [Step(["meet"], lambda: [Meet(2)], POOL, at_once=2), Step(["write"], lambda: [Write(tmp_path)])]
    meeting, _ = execute(BLOCKS, steps, 4, S3(), silent)
    assert (meeting.rows, meeting.errors) == (8, 0)
    assert meeting.seconds < 4 * Meet.PAUSE_S  # of two at once, each second counts once


def test_the_callers_settings_of_ray_data_stay_as_they_are(tmp_path: Path) -> None:
    before = ray.data.DataContext.get_current()
    steps = [Step(["mark"], lambda: [Mark(5)], POOL), Step(["write"], lambda: [Write(tmp_path)])]
    execute(BLOCKS, steps, 1, S3(), silent)
    assert ray.data.DataContext.get_current() is before
    assert before.target_max_block_size is not None


def test_costs_of_a_stage_are_summed_over_blocks(tmp_path: Path) -> None:
    steps = [Step(["write"], lambda: [Write(tmp_path)])]
    (cost,) = execute(BLOCKS, steps, 1, S3(), silent)
    assert cost == Cost("write", 8, 0, pytest.approx(cost.seconds))
