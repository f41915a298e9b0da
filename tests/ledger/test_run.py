import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.run import RunLedger, RunManifest
from tests.conftest import files_below

COLUMNS = schema.answers(pa.schema([("topic", pa.string())]))
TOTAL = 20


def answers(*positions: int, attempt: str = "first", error: str | None = None) -> pa.Table:
    """Rows of these positions, as one attempt would stage them."""
    columns = dict.fromkeys(COLUMNS.names, [None] * len(positions)) | {
        schema.POSITION: positions,
        "prompt_id": [f"prompt {position}" for position in positions],
        "topic": [f"topic {position}" for position in positions],
        "answer": [None if error else f"{position} by {attempt}" for position in positions],
        "prompt_tokens": [None if error else 5] * len(positions),
        "error": [error] * len(positions),
    }
    return pa.table(columns, pa.schema([(schema.POSITION, pa.int64()), *COLUMNS]))


@pytest.fixture
def run(tmp_path: Path) -> RunLedger:
    return RunLedger(str(tmp_path), "r1", "identity")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishing goes through seven prompts at a time."""
    monkeypatch.setattr("ragjob.ledger.run.WINDOW", 7)


def published(run: RunLedger) -> list[tuple[str, str | None, str | None]]:
    rows = pq.read_table(run.answers)
    return list(zip(*(rows[name].to_pylist() for name in ("prompt_id", "answer", "error")), strict=True))


def test_a_staged_answer_is_done_and_a_staged_error_isnt(run: RunLedger) -> None:
    run.write(answers(0, 3))
    run.write(answers(1, error="out of memory"))
    assert [np.flatnonzero(mask).tolist() for mask in run.progress(5)] == [[0, 3], [0, 1, 3]]


def test_answers_and_errors_of_a_block_are_parts_of_their_own(run: RunLedger, tmp_path: Path) -> None:
    run.write(pa.concat_tables([answers(0, 12), answers(5, error="blank")]))
    names = files_below(tmp_path / "_staging" / "r1")
    assert [name.rpartition("-")[0] for name in names] == ["part-000000000-000000012", "part-000000005-000000005"]


def test_a_run_is_one_row_a_prompt_in_the_prompts_order(run: RunLedger, narrow: None) -> None:
    run.write(answers(*range(19, 12, -1)))
    run.write(answers(0, 4, 8, 12))
    run.write(answers(1, 2, 3, 5, 6, 7, 9, 10, 11))
    manifest = run.publish(TOTAL, COLUMNS)
    assert published(run) == [(f"prompt {at}", f"{at} by first", None) for at in range(TOTAL)]
    assert manifest == RunManifest("r1", "identity", rows=20, errors=0, prompt_tokens=100, completion_tokens=0)


def test_a_runs_columns_are_the_designs_and_no_more(run: RunLedger) -> None:
    run.write(answers(0))
    run.publish(1, COLUMNS)
    assert pq.read_table(run.answers).schema.remove_metadata() == COLUMNS


@pytest.mark.parametrize("attempt", ["first", "second", "third", "fourth"])
def test_an_answer_beats_an_error_whichever_was_first(run: RunLedger, attempt: str) -> None:
    run.write(answers(0, error="out of memory"))
    run.write(answers(0, attempt=attempt))
    run.write(answers(0, error="blank"))
    run.publish(1, COLUMNS)
    assert published(run) == [("prompt 0", f"0 by {attempt}", None)]


def test_two_answers_to_a_prompt_are_the_same_one_in_every_merge(tmp_path: Path) -> None:
    runs = [RunLedger(str(tmp_path / name), "r1", "identity") for name in ("one", "other")]
    for run, attempts in zip(runs, (["a", "b", "c"], ["c", "b", "a"]), strict=True):
        for attempt in attempts:
            run.write(answers(0, 1, attempt=attempt))
        run.publish(2, COLUMNS)
    assert published(runs[0]) == published(runs[1])


def test_a_prompt_that_failed_is_a_row_with_its_error(run: RunLedger) -> None:
    run.write(answers(0, 2))
    run.write(answers(1, error="prompt is blank"))
    assert run.publish(3, COLUMNS).errors == 1
    assert published(run)[1] == ("prompt 1", None, "prompt is blank")
    assert run.errors(9) == [("prompt 1", "prompt is blank")]


def test_errors_are_shown_up_to_a_number(run: RunLedger) -> None:
    run.write(answers(*range(5), error="blank"))
    assert len(run.staged_errors(3)) == 3
    run.publish(5, COLUMNS)
    assert run.errors(2) == [("prompt 0", "blank"), ("prompt 1", "blank")]


@pytest.mark.parametrize(
    ("staged", "message"),
    [([0, 1, *range(7, 20)], "5 prompts have no row"), ([*range(7), *range(14, 20)], "no part holds prompts 7 to 13")],
)
def test_a_run_with_a_prompt_missing_isnt_published(
    run: RunLedger, narrow: None, tmp_path: Path, staged: list[int], message: str
) -> None:
    for position in staged:
        run.write(answers(position))
    with pytest.raises(DependencyError, match=f"{message}; run the job again$"):
        run.publish(TOTAL, COLUMNS)
    assert files_below(tmp_path / "r1") == []


def test_a_run_is_published_once_by_whoever_is_first(run: RunLedger, narrow: None, tmp_path: Path) -> None:
    for first in range(0, TOTAL, 2):
        run.write(answers(first, first + 1))

    def finish(_: int) -> RunManifest:
        manifest = RunLedger(str(tmp_path), "r1", "identity").publish(TOTAL, COLUMNS)
        run.sweep()
        return manifest

    with ThreadPoolExecutor(8) as pool:
        manifests = list(pool.map(finish, range(8)))
    assert manifests == [manifests[0]] * 8
    assert files_below(tmp_path) == ["r1/_manifest.json", "r1/answers.parquet"]


class OvertakenLedger(RunLedger):
    """A run that `twin` publishes and sweeps after its parts were listed and before they are read."""

    twin: RunLedger

    def _parts(self) -> list[str]:
        names = super()._parts()
        self.twin.publish(2, COLUMNS)
        self.twin.sweep()
        return names


def test_a_part_that_is_gone_since_another_attempt_published_is_no_failure(run: RunLedger, tmp_path: Path) -> None:
    run.write(answers(0, 1))
    overtaken = OvertakenLedger(str(tmp_path), "r1", "identity")
    overtaken.twin = run
    assert overtaken.publish(2, COLUMNS) == run.published()
    assert files_below(tmp_path) == ["r1/_manifest.json", "r1/answers.parquet"]


def test_a_run_is_claimed_again_by_the_same_job(run: RunLedger, tmp_path: Path) -> None:
    run.claim("v1")
    run.claim("v1")
    assert json.loads((tmp_path / "_staging" / "r1" / "identity.json").read_text()) == {
        "identity": "identity",
        "index_version": "v1",
    }


def test_another_job_under_the_same_run_id_is_refused(run: RunLedger, tmp_path: Path) -> None:
    run.claim("v1")
    with pytest.raises(
        DataError, match=r"^run_id: r1 was started with other settings or inputs; choose another run_id"
    ):
        RunLedger(str(tmp_path), "r1", "other").claim("v1")


@pytest.mark.parametrize("damaged", ["", "{", "[]"])
def test_an_identity_that_is_damaged_is_named(run: RunLedger, tmp_path: Path, damaged: str) -> None:
    storage.put(str(tmp_path / "_staging" / "r1" / "identity.json"), damaged.encode())
    with pytest.raises(DataError, match=r"^run_id: .*/identity.json has no identity; remove that folder"):
        run.claim("v1")


@pytest.fixture
def done(run: RunLedger) -> RunLedger:
    """A run of two prompts, published and swept."""
    run.claim("v1")
    run.write(answers(0, 1))
    run.publish(2, COLUMNS)
    run.sweep()
    return run


def test_another_job_under_a_published_run_id_is_refused(done: RunLedger, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^run_id: r1 was started with other settings"):
        RunLedger(str(tmp_path), "r1", "other").published()


@pytest.mark.parametrize("damaged", [None, "", "{", "[]", '{"rows": 2}'])
def test_a_manifest_that_is_missing_or_damaged_is_written_anew(
    done: RunLedger, tmp_path: Path, damaged: str | None
) -> None:
    manifest = tmp_path / "r1" / "_manifest.json"
    before = manifest.read_bytes()
    manifest.unlink() if damaged is None else manifest.write_text(damaged)
    assert done.published() == RunManifest(**json.loads(before))
    assert manifest.read_bytes() == before


def test_another_job_is_refused_also_where_the_manifest_is_missing(done: RunLedger, tmp_path: Path) -> None:
    (tmp_path / "r1" / "_manifest.json").unlink()
    with pytest.raises(DataError, match=r"^run_id: r1 was started with other settings"):
        RunLedger(str(tmp_path), "r1", "other").published()
    assert files_below(tmp_path) == ["r1/answers.parquet"]


def test_another_programs_file_is_refused_as_a_run(run: RunLedger) -> None:
    Path(run.answers).parent.mkdir()
    pq.write_table(pa.table({"answer": ["42"]}), run.answers)
    with pytest.raises(DataError, match=r"^run_id: r1 was started with other settings"):
        run.published()


def test_a_published_run_is_published_again_untouched(done: RunLedger) -> None:
    before = Path(done.answers).stat().st_mtime_ns
    done.write(answers(0, 1, attempt="late"))
    done.publish(2, COLUMNS)
    assert Path(done.answers).stat().st_mtime_ns == before


def test_a_sweep_leaves_the_run_alone(done: RunLedger, tmp_path: Path) -> None:
    (tmp_path / "r1" / "_answers.parquet.x7").write_bytes(b"left by a killed writer")
    done.write(answers(0, attempt="late"))
    done.sweep()
    assert files_below(tmp_path) == ["r1/_manifest.json", "r1/answers.parquet"]
    assert not (tmp_path / "_staging").exists()


def test_a_file_among_the_parts_that_isnt_named_as_one_is_no_part(run: RunLedger, tmp_path: Path) -> None:
    run.write(answers(0, 1))
    (tmp_path / "_staging" / "r1" / "part-0-elsewhere.parquet").write_bytes(b"of another program")
    assert run.publish(2, COLUMNS).rows == 2


@pytest.fixture
def beside_another(done: RunLedger, tmp_path: Path) -> RunLedger:
    """A published run beside one that is still staging."""
    other = RunLedger(str(tmp_path), "r2", "other")
    other.claim("v1")
    other.write(answers(0, 1, 2))
    return done


@pytest.mark.parametrize("folder", [".", "r1"])
def test_a_plain_reader_of_the_folder_sees_the_answers_alone(
    beside_another: RunLedger, tmp_path: Path, folder: str
) -> None:
    assert pq.read_table(tmp_path / folder)["prompt_id"].to_pylist() == ["prompt 0", "prompt 1"]


def test_a_plain_reader_sees_the_answers_of_all_runs(beside_another: RunLedger, tmp_path: Path) -> None:
    RunLedger(str(tmp_path), "r2", "other").publish(3, COLUMNS)
    assert pq.read_table(tmp_path).num_rows == 5


def test_a_disk_that_is_full_leaves_a_run_unpublished(small_disk: Path) -> None:
    run = RunLedger(str(small_disk), "r1", "identity")
    run.write(answers(0, 1, attempt=os.urandom(40_000).hex()))
    with pytest.raises(DependencyError, match=r"answers.parquet: No space left on device; free some space$"):
        run.publish(2, COLUMNS)
    assert files_below(small_disk / "r1") == []


BLOCKS = st.lists(st.tuples(st.sets(st.integers(0, TOTAL - 1), min_size=1), st.booleans()), max_size=6)


@given(BLOCKS)
def test_whatever_attempts_staged_the_next_one_answers_each_prompt_once(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[set[int], bool]]
) -> None:
    run = RunLedger(str(tmp_path_factory.mktemp("run")), "r1", "identity")
    for positions, failed in blocks:
        run.write(answers(*sorted(positions), error="failed" if failed else None))
    fine = {position for positions, failed in blocks for position in positions if not failed}
    left = np.flatnonzero(~run.progress(TOTAL)[0]).tolist()
    assert left == sorted(set(range(TOTAL)) - fine)
    run.write(answers(*left, attempt="second"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ragjob.ledger.run.WINDOW", 7)
        run.publish(TOTAL, COLUMNS)
    by = {True: "first", False: "second"}
    assert published(run) == [(f"prompt {at}", f"{at} by {by[at in fine]}", None) for at in range(TOTAL)]
