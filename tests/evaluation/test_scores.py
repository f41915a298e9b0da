"""What each prompt of a run scores."""

import numpy as np
import pytest

from ragjob.errors import DataError
from ragjob.evaluation.labels import Label, Labels
from ragjob.evaluation.scores import METRICS, score
from ragjob.ledger import schema
from tests.evaluation.runs import BRIDGE, DEPOT, OTHER, labels_of, run_of

FAILED = {schema.ANSWER: None, schema.RETRIEVED_DOCUMENT_IDS: None, schema.RETRIEVED_IDS: None, schema.ERROR: "blank"}


def scores_of(row: dict[str, object], labels: Labels) -> dict[str, float]:
    """The metrics of a run of one prompt."""
    return {name: float(values[0]) for name, values in score("run", run_of([row]), labels).values.items()}


def test_a_prompt_is_scored_by_documents_answers_and_citations() -> None:
    scores = scores_of({"citations": [1, 3, 3]}, labels_of(BRIDGE, OTHER, answers=("Depot", "the depot")))
    assert scores == pytest.approx(
        {
            "recall@1": 0,
            "recall@3": 1,
            "mrr": 0.5,
            "ndcg@10": (1 / np.log2(3) + 0.5) / (1 + 1 / np.log2(3)),
            "exact_match": 0,
            "f1": 0.5,  # one word of "it is depot" is right, and no other is wanted
            "contains_answer": 1,
            "citation_precision": 0.5,
            "citation_recall": 0.5,
            "unanswered": 0,
        }
    )


def test_chunks_can_be_labelled_instead_of_documents() -> None:
    assert scores_of({}, labels_of("c3", kind="chunk_ids"))["mrr"] == pytest.approx(1 / 3)


def test_a_failed_prompt_scores_nothing_and_counts_as_unanswered() -> None:
    answers = run_of([{"citations": [1]}, FAILED])
    scores = score("run", answers, labels_of(DEPOT, answers=("depot",), prompts=2))
    failed = {name: values[1] for name, values in scores.values.items()}
    assert failed.pop("unanswered") == 1
    assert np.isnan(failed.pop("citation_precision"))
    assert set(failed.values()) == {0}


def test_blank_answers_are_no_answers() -> None:
    assert scores_of({schema.ANSWER: " \n"}, labels_of(DEPOT))["unanswered"] == 1


def test_an_answer_that_cites_nothing_has_no_precision_and_no_recall_and_passages_that_are_not_there_are_wrong() -> (
    None
):
    answers = run_of([{"citations": []}, {"citations": [1, 4, 0]}])
    values = score("run", answers, labels_of(DEPOT, prompts=2)).values
    assert values["citation_precision"].tolist() == pytest.approx([np.nan, 1 / 3], nan_ok=True)
    assert values["citation_recall"].tolist() == [0, 1]


def test_a_run_without_citations_has_no_metrics_of_them() -> None:
    assert not {"citation_precision", "citation_recall"} & scores_of({}, labels_of(DEPOT)).keys()


def test_recall_is_given_as_far_as_the_passages_go() -> None:
    deeper = {schema.RETRIEVED_DOCUMENT_IDS: [OTHER] * 9 + [DEPOT], schema.RETRIEVED_IDS: list("abcdefghij")}
    assert "recall@5" not in scores_of({}, labels_of(DEPOT))
    assert scores_of(deeper, labels_of(DEPOT))["recall@10"] == 1


def test_metrics_without_labels_do_not_apply() -> None:
    by_prompt = {
        "p0": Label(frozenset({DEPOT}), ()),
        "p2": Label(frozenset(), ("depot",)),
        "p9": Label(frozenset(), ()),
    }
    scores = score("run", run_of([{}, {}, {}]), Labels(schema.PROMPT_ID, "document_ids", by_prompt))
    assert np.isnan(scores.values["mrr"]).tolist() == [False, True, True]
    assert np.isnan(scores.values["f1"]).tolist() == [True, True, False]
    assert (scores.labelled.tolist(), scores.unused_labels) == ([True, False, True], 1)


def test_labels_by_prompt_are_of_every_row_with_that_text() -> None:
    labels = Labels(schema.PROMPT, "document_ids", {"Where?": Label(frozenset({DEPOT}), ())})
    scores = score("run", run_of([{schema.PROMPT: "Where?"}, {schema.PROMPT: None}, {schema.PROMPT: "Where?"}]), labels)
    assert (scores.labelled.tolist(), scores.unused_labels) == ([True, False, True], 0)


def test_a_run_of_an_older_release_is_refused_where_labels_name_documents() -> None:
    old = run_of([{}]).drop_columns([schema.RETRIEVED_DOCUMENT_IDS])
    with pytest.raises(DataError, match=r"^answers/r1: the run has no column retrieved_document_ids, since an older"):
        score("answers/r1", old, labels_of(DEPOT))
    assert set(score("answers/r1", old, labels_of(answers=("depot",))).values) == {*METRICS[6:9], "unanswered"}
