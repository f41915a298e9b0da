"""What happens around the flow of `answer`: resuming, racing, publishing. It runs in this process, without Ray."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob.commands import api
from ragjob.config import JobSettings
from ragjob.errors import DataError, DependencyError, TooManyFailures
from ragjob.ledger.index import IndexLedger
from ragjob.ledger.run import claimed_versions
from ragjob.models.capacity import Resources
from ragjob.planning.checks import Plan, plan_answer
from ragjob.planning.identity import AnswerTask, CommittedIndex
from ragjob.stages.cost import Cost
from tests.commands.conftest import BLANKS, Asked, Use, answering, as_stated, refusing, stage_then

pytestmark = pytest.mark.services


class Spy:
    """Does as `answering` does, and knows the positions that were to be answered."""

    def __init__(self) -> None:
        self.positions: list[int] = []

    def __call__(self, blocks: list[pa.Table], *more: Any) -> list[Cost]:
        rows = [row for unit in blocks for row in unit.to_pylist()]
        self.positions += [row["position"] + at for row in rows for at in range(row["rows"])]
        return answering(blocks, *more)


def events(folder: Path) -> list[list[dict[str, Any]]]:
    """The log of each attempt at the one run below `folder`, in order of its first event."""
    logs = [file.read_text().splitlines() for file in folder.glob("*/_log/*.jsonl")]
    return sorted(([json.loads(line) for line in log] for log in logs), key=lambda log: log[0]["time"])


def test_each_stage_of_answer_needs_and_adds_the_columns_that_it_states(use: Use, asked: Asked) -> None:
    use(as_stated)
    assert api.answer(asked()).rows == 8


def test_an_answered_run_answered_again_computes_nothing(use: Use, asked: Asked) -> None:
    use(answering)
    first = api.answer(asked())
    use(refusing)
    again = api.answer(asked())
    assert (first.rows, first.already_done, again.rows, again.already_done) == (8, False, 8, True)


def test_answers_staged_by_a_stopped_attempt_arent_computed_again(use: Use, asked: Asked) -> None:
    use(lambda blocks, *more: stage_then(KeyboardInterrupt())(blocks[:2], *more))
    with pytest.raises(KeyboardInterrupt):
        api.answer(asked())
    spy = Spy()
    use(spy)
    report = api.answer(asked())
    assert (spy.positions, report.kept, report.rows) == ([6, 7], 6, 8)


def test_a_run_with_all_answers_staged_is_published_without_computing(use: Use, asked: Asked) -> None:
    use(stage_then(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        api.answer(asked())
    use(refusing)
    assert pq.read_table(api.answer(asked()).answers).num_rows == 8


def test_too_many_failed_prompts_publish_nothing(use: Use, asked: Asked, tmp_path: Path) -> None:
    use(answering)
    with pytest.raises(
        TooManyFailures,
        match=r"^errors.max_rate: 2 of 8 prompts failed, more than 10.0%; correct or retry them, or raise the rate; "
        r"the errors are in \S+/out/_staging/\w+/part-\*.parquet; the first is \S+: prompt is blank$",
    ):
        api.answer(asked("blanks"))
    assert not list(tmp_path.glob("out/*/answers.parquet"))


def test_failed_prompts_alone_are_tried_again_under_the_same_rate(use: Use, asked: Asked) -> None:
    spy = Spy()
    use(answering)
    with pytest.raises(TooManyFailures):
        api.answer(asked("blanks"))
    use(spy)
    with pytest.raises(TooManyFailures, match="2 of 8 prompts failed"):
        api.answer(asked("blanks"))
    assert spy.positions == BLANKS


def test_a_higher_rate_publishes_without_computing(use: Use, asked: Asked) -> None:
    use(answering)
    with pytest.raises(TooManyFailures):
        api.answer(asked("blanks"))
    use(refusing)
    report = api.answer(asked("blanks", errors={"max_rate": 0.25}))
    rows = pq.read_table(report.answers)
    assert [at for at, error in enumerate(rows["error"].to_pylist()) if error] == BLANKS
    assert (report.rows, report.errors, report.kept) == (8, 2, 6)
    assert [error for _, error in report.failures] == ["prompt is blank"] * 2


def test_a_run_that_fails_alone_fails(use: Use, asked: Asked) -> None:
    use(stage_then(DependencyError("Ray: gone")))
    with pytest.raises(DependencyError, match=r"^Ray: gone$"):
        api.answer(asked())


@pytest.mark.parametrize("ending", [DependencyError("Ray: gone"), DataError("part-1.parquet: no such file")])
def test_a_run_that_another_attempt_publishes_meanwhile_ends_well(
    use: Use, asked: Asked, tmp_path: Path, ending: Exception
) -> None:
    def overtaken(*_: object) -> list[Cost]:
        use(answering)
        api.answer(asked())
        raise ending

    use(overtaken)
    report = api.answer(asked())
    assert (report.rows, pq.read_table(report.answers).num_rows) == (8, 8)
    assert not (tmp_path / "out" / "_staging").exists()


def test_a_slow_attempt_whose_parts_were_swept_by_a_faster_one_ends_well(
    use: Use, asked: Asked, tmp_path: Path
) -> None:
    def slow(blocks: list[pa.Table], *more: Any) -> list[Cost]:
        answering(blocks[:1], *more)
        use(answering)
        api.answer(asked())
        return answering(blocks[1:], *more)

    use(slow)
    report = api.answer(asked())
    assert (report.rows, report.errors) == (8, 0)
    assert not (tmp_path / "out" / "_staging").exists()


def test_other_settings_under_a_run_id_that_is_taken_compute_nothing(use: Use, asked: Asked) -> None:
    use(stage_then(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        api.answer(asked(run_id="mine"))
    use(refusing)
    with pytest.raises(DataError, match=r"^run_id: mine was started with other settings or inputs; choose"):
        api.answer(asked(run_id="mine", retrieve={"top_k": 2}))


def test_an_answer_leaves_the_current_version_as_it_is(use: Use, asked: Asked, made: JobSettings) -> None:
    current = Path(str(made.index.uri)) / "current.json"
    before = current.stat().st_mtime_ns
    use(answering)
    api.answer(asked())
    assert current.stat().st_mtime_ns == before


def test_each_attempts_log_is_kept_with_the_run(use: Use, asked: Asked, tmp_path: Path) -> None:
    use(stage_then(DependencyError("Ray: gone")))
    with pytest.raises(DependencyError):
        api.answer(asked())
    (failed,) = events(tmp_path / "out")
    assert [(event["event"], event.get("exit_code")) for event in failed] == [("started", None), ("Ray: gone", 3)]


def test_the_log_of_a_run_tells_what_each_stage_did(use: Use, asked: Asked, tmp_path: Path) -> None:
    use(answering)
    report = api.answer(asked())
    (done,) = events(tmp_path / "out")
    assert [event["event"] for event in done] == ["started", "stage", "done"]
    assert (done[0]["run_id"], done[1]["stage"], done[1]["seconds"]) == (report.run_id, "write", 0.5)
    assert (done[2]["rows"], done[2]["errors"], done[2]["kept"]) == (8, 0, 0)


def test_an_index_version_removed_before_it_was_claimed_ends_with_one_line(
    use: Use, asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = asked()
    index = shutil.copytree(str(settings.index.uri), tmp_path / "copy")
    settings = asked(index={"uri": str(index)})
    (version,) = (index / "versions").iterdir()
    withdrawn = IndexLedger(str(index), version.name).withdraw
    use(answering)

    def removing(index: CommittedIndex, task: AnswerTask, size: Resources) -> Plan:
        assert withdrawn(lambda: False)
        return plan_answer(index, task, size)

    monkeypatch.setattr("ragjob.planning.checks.plan_answer", removing)
    with pytest.raises(
        DataError, match=rf"^index.uri: version {version.name} was removed after the job began; run the job"
    ):
        api.answer(settings)
    assert claimed_versions(str(settings.output.uri)) == {version.name}
