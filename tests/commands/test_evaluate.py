"""`evaluate` on runs that lie on disk or on S3."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob import storage
from ragjob.commands.evaluate import NO_VALUE, Evaluate
from ragjob.config import JobSettings
from ragjob.errors import DataError, EvaluationFailed, RagjobError, SettingsError
from ragjob.evaluation.results import Evaluation
from ragjob.ledger.files import read_parquet, to_parquet
from ragjob.storage import settings as reached
from tests.evaluation.runs import BRIDGE, DEPOT, OTHER, run_of
from tests.forks import ragjob
from tests.storage.conftest import place, s3

__all__ = ["place", "s3"]  # fixtures

TOPICS = ["lines", "lines", None, "museum"]
GOOD = run_of([{"topic": topic, "pages": [1]} for topic in TOPICS * 3])
BAD = GOOD.set_column(
    GOOD.schema.get_field_index("retrieved_document_ids"), "retrieved_document_ids", pa.array([[OTHER, BRIDGE]] * 12)
)
LABELS = "".join(
    json.dumps({"prompt_id": f"p{n}", "document_ids": DEPOT, "answers": ["depot"]}) + "\n" for n in range(11)
)


def put_runs(folder: str) -> None:
    storage.put(f"{folder}/good/answers.parquet", to_parquet(GOOD))
    storage.put(f"{folder}/bad/answers.parquet", to_parquet(BAD))
    storage.put(f"{folder}/labels.jsonl", LABELS.encode())


@pytest.fixture
def runs(place: str) -> str:
    """A folder with a good run, a bad one, and labels for all their prompts but the last."""
    put_runs(place)
    return place


@pytest.fixture
def local_runs(tmp_path: Path) -> Path:
    """The same on disk."""
    put_runs(str(tmp_path))
    return tmp_path


def evaluate(run: str, *arguments: str, **options: object) -> Evaluation:
    settings = JobSettings.model_validate({"s3": reached.current})
    return Evaluate.of(settings, run, *arguments, **options).execute()


def test_figures_are_returned_and_written_beside_the_run(runs: str) -> None:
    evaluation = evaluate(f"{runs}/good/", f"{runs}/labels.jsonl")
    assert (evaluation.prompts, evaluation.labelled, evaluation.passages) == (12, 11, 3)
    assert (evaluation.metrics["recall@1"].mean, evaluation.metrics["recall@1"].n) == (1, 11)
    assert evaluation.metrics["unanswered"].n == 12
    written = json.loads(storage.read_bytes(f"{runs}/good/_evaluation.json"))
    assert written["metrics"]["recall@1"] == {"mean": 1, "low": 1, "high": 1, "n": 11}
    rows = read_parquet(f"{runs}/good/_evaluation.parquet")
    assert rows["prompt_id"].to_pylist() == GOOD["prompt_id"].to_pylist()
    assert rows["mrr"].to_pylist() == [1] * 11 + [None]


def test_the_labels_of_the_last_evaluation_are_taken_again(runs: str) -> None:
    first = evaluate(f"{runs}/good", f"{runs}/labels.jsonl")
    assert evaluate(f"{runs}/good") == first


def test_a_run_is_compared_with_another_by_the_same_labels(runs: str) -> None:
    evaluation = evaluate(f"{runs}/bad", f"{runs}/labels.jsonl", against=f"{runs}/good")
    assert evaluation.against
    assert evaluation.against.metrics["recall@1"].losses == 11
    with pytest.raises(EvaluationFailed, match=r"recall@1 is 0\.0000, significantly worse than 1\.0000 \(p = 0\.00"):
        evaluation.require()


def test_figures_are_given_for_each_value_of_a_column(runs: str) -> None:
    groups = evaluate(f"{runs}/good", f"{runs}/labels.jsonl", by="topic").groups
    assert {value: figures["unanswered"].n for value, figures in groups.items()} == {
        NO_VALUE: 3,
        "lines": 6,
        "museum": 3,
    }
    assert groups["museum"]["mrr"].n == 2


@pytest.mark.parametrize(
    ("limits", "failed"),
    [
        (["recall@3=1", "nDCG@10=0.99", "unanswered=0"], []),
        (["mrr=0.1", "exact_match=.5"], ["exact_match is 0.0000, below 0.5"]),
    ],
)
def test_limits_are_lowest_means_and_the_highest_share_without_an_answer(
    local_runs: Path, limits: list[str], failed: list[str]
) -> None:
    assert evaluate(f"{local_runs}/good", f"{local_runs}/labels.jsonl", fail_under=limits).failed == failed


def test_more_prompts_without_an_answer_than_the_limit_fail(local_runs: Path) -> None:
    storage.put(f"{local_runs}/none/answers.parquet", to_parquet(run_of([{"answer": None}, {}])))
    evaluation = evaluate(f"{local_runs}/none", f"{local_runs}/labels.jsonl", fail_under=["unanswered=0.4"])
    assert evaluation.failed == ["unanswered is 0.5000, above 0.4"]


@pytest.mark.parametrize(
    ("run", "options", "kind", "error"),
    [
        ("good", {}, SettingsError, "--labels: .*good hasn't been evaluated yet; name a file of labels"),
        ("none", {"labels": True}, DataError, "RUN: .*none has no answers.parquet; name the folder of a published run"),
        ("good", {"labels": True, "against": "none"}, DataError, "--against: .*none has no answers.parquet; .*"),
        ("good", {"labels": True, "by": "answer"}, SettingsError, "--by: answer isn't a column of the prompts; .*"),
        ("good", {"labels": True, "by": "none"}, SettingsError, "--by: .* has no column 'none'; .*"),
        ("good", {"labels": True, "by": "pages"}, SettingsError, "--by: column 'pages' holds list<.*>; .*"),
        ("good", {"fail_under": ["recall@3"]}, SettingsError, "--fail-under: 'recall@3' isn't of the form .*"),
        ("good", {"fail_under": ["mrr=90"]}, SettingsError, "--fail-under: 'mrr=90' isn't .* from 0 to 1; .*"),
        (
            "good",
            {"fail_under": ["bleu=0.9"]},
            SettingsError,
            "--fail-under: there is no metric 'bleu'; name one of .*",
        ),
        (
            "good",
            {"labels": True, "fail_under": ["recall@10=0.9"]},
            SettingsError,
            "--fail-under: this run and these labels give recall@1, .*, not recall@10; name one of these",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(
    local_runs: Path, run: str, options: dict[str, object], kind: type[RagjobError], error: str
) -> None:
    labels = {"labels": f"{local_runs}/labels.jsonl"} if "labels" in options else {}
    with pytest.raises(kind, match=f"^{error}$"):
        evaluate(f"{local_runs}/{run}", **options | labels)


def test_a_column_that_has_no_text_for_its_values_is_refused(local_runs: Path) -> None:
    took = pa.array([1], pa.duration("s"))
    storage.put(f"{local_runs}/long/answers.parquet", to_parquet(run_of([{}]).append_column("took", took)))
    error = "--by: column 'took' holds values that can't be written as text: durations, .*; name another column"
    with pytest.raises(SettingsError, match=f"^{error}$"):
        evaluate(f"{local_runs}/long", f"{local_runs}/labels.jsonl", by="took")


def test_a_column_with_too_many_values_is_refused(local_runs: Path) -> None:
    storage.put(f"{local_runs}/many/answers.parquet", to_parquet(run_of([{"number": n} for n in range(101)])))
    with pytest.raises(SettingsError, match=r"^--by: column 'number' has 101 values, more than 100; "):
        evaluate(f"{local_runs}/many", f"{local_runs}/labels.jsonl", by="number")


def test_labels_of_other_prompts_are_refused(local_runs: Path) -> None:
    (local_runs / "labels.jsonl").write_text('{"prompt_id": "q1", "answers": "depot"}')
    with pytest.raises(DataError, match=r"^--labels: none of the 1 labels of .* has the prompt_id of a prompt of "):
        evaluate(f"{local_runs}/good", f"{local_runs}/labels.jsonl")


def test_a_damaged_evaluation_is_told_and_written_anew_with_labels(local_runs: Path) -> None:
    (local_runs / "good/_evaluation.json").write_text("{}")
    with pytest.raises(DataError, match=r"^RUN: .*_evaluation\.json can't be read: .*; name the labels with --labels$"):
        evaluate(f"{local_runs}/good")
    assert evaluate(f"{local_runs}/good", f"{local_runs}/labels.jsonl") == evaluate(f"{local_runs}/good")


# The command


def test_the_command_prints_figures_and_takes_neither_ray_nor_torch_nor_chroma(local_runs: Path) -> None:
    ended = ragjob(
        "evaluate", "bad", "--labels", "labels.jsonl", "--against", "good", "--by", "topic", folder=local_runs
    )
    assert (ended.code, ended.heavy) == (6, set())
    assert "12 prompts, 11 of them with a label" in ended.out
    assert "recall@1         0.0000  0.0000 to 0.0000  11" in ended.out
    assert "topic = museum" in ended.out
    assert "The 11 prompts that changed most:\n  p0  Question 0?\n    recall@1 1.00 → 0.00" in ended.out
    assert ended.err.startswith("ragjob: recall@1 is 0.0000, significantly worse than 1.0000 (p = ")


def test_the_command_prints_json_alone_for_programs(local_runs: Path) -> None:
    ended = ragjob(
        "evaluate", "good", "--labels", "labels.jsonl", "--json", "--fail-under", "f1=0.9", folder=local_runs
    )
    assert ended.code == 6
    assert ended.err.startswith("ragjob: f1 is 0.5000, below 0.9: see the prompts in ")
    assert json.loads(ended.out) == json.loads((local_runs / "good/_evaluation.json").read_text())


def test_the_folder_of_an_evaluated_run_is_still_read_as_one_table(local_runs: Path) -> None:
    evaluate(f"{local_runs}/good", f"{local_runs}/labels.jsonl")
    assert pq.read_table(local_runs / "good").equals(GOOD)
