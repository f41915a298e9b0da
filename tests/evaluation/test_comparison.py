"""How one run differs from another."""

import numpy as np
import pytest

from ragjob.errors import DataError
from ragjob.evaluation.comparison import compare
from ragjob.evaluation.scores import Scores, score
from ragjob.ledger import schema
from tests.evaluation.runs import BRIDGE, DEPOT, OTHER, labels_of, run_of

FIRST, SECOND, NOWHERE = [DEPOT, OTHER], [OTHER, DEPOT], [OTHER, BRIDGE]
NONE = {schema.ANSWER: None}


def scores_of(*rows: dict[str, object]) -> Scores:
    return score("run", run_of(list(rows)), labels_of(DEPOT, answers=("depot",), prompts=len(rows)))


def retrieved(*lists: list[str]) -> Scores:
    return scores_of(*({schema.RETRIEVED_DOCUMENT_IDS: ids, schema.RETRIEVED_IDS: ids} for ids in lists))


def test_wins_losses_and_ties_are_counted_prompt_by_prompt() -> None:
    here, there = retrieved(FIRST, FIRST, SECOND, SECOND), retrieved(SECOND, NOWHERE, FIRST, SECOND)
    difference = compare(here, there, "other").metrics["mrr"]
    assert (difference.mean, difference.against) == (0.75, 0.5)
    assert (difference.wins, difference.losses, difference.ties, difference.n) == (2, 1, 1, 4)


def test_prompts_are_paired_by_their_ids_whatever_their_order() -> None:
    here = scores_of(*({} for _ in range(4)))
    reordered = run_of([{}, NONE, {}]).take([2, 1, 0])
    there = score("run", reordered, labels_of(DEPOT, prompts=3))
    comparison = compare(here, there, "other")
    assert (comparison.prompts, comparison.only_here, comparison.only_there) == (3, 1, 0)
    assert [change.prompt_id for change in comparison.changes] == ["p1"]
    assert comparison.changes[0].metrics == {"unanswered": (1, 0)}


@pytest.mark.parametrize(
    ("changed", "verdict"), [(6, "worse"), (5, "undecided"), (0, "undecided")]
)  # p is 2 / 2**6 and 2 / 2**5
def test_a_verdict_takes_a_p_value_below_five_percent(changed: int, verdict: str) -> None:
    here = retrieved(*[SECOND] * changed, *[FIRST] * (20 - changed))
    assert compare(here, retrieved(*[FIRST] * 20), "other").metrics["recall@1"].verdict == verdict


def test_fewer_unanswered_prompts_are_better() -> None:
    answered, unanswered = scores_of(*[{}] * 8), scores_of(*[NONE] * 8)
    assert compare(answered, unanswered, "other").metrics["unanswered"].verdict == "better"
    assert compare(unanswered, answered, "other").metrics["unanswered"].verdict == "worse"


def test_the_twenty_prompts_that_changed_most_come_first() -> None:
    here = retrieved(*[FIRST] * 15, *[SECOND] * 15, *[FIRST] * 5)
    there = retrieved(*[SECOND] * 15, *[NOWHERE] * 15, *[FIRST] * 5)
    changes = compare(here, there, "other").changes
    assert [change.prompt_id for change in changes] == [f"p{n}" for n in range(20)]
    assert changes[0].metrics == {
        "recall@1": (0, 1),
        "mrr": (0.5, 1),
        "ndcg@10": (pytest.approx(1 / np.log2(3)), 1),
    }


def test_a_run_has_no_difference_to_itself() -> None:
    comparison = compare(retrieved(FIRST, NOWHERE), retrieved(FIRST, NOWHERE), "itself")
    assert {difference.p_value for difference in comparison.metrics.values()} == {1}
    assert comparison.changes == []


def test_runs_of_other_prompts_are_refused() -> None:
    other = score("run", run_of([{schema.PROMPT_ID: "q0"}]), labels_of(DEPOT))
    with pytest.raises(DataError, match=r"^--against: answers/r2 has none of this run's prompt_ids"):
        compare(scores_of({}), other, "answers/r2")
