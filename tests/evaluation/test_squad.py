"""Metrics of answers are those of the SQuAD evaluation script, which transformers has a copy of."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.data.metrics import squad_metrics

from ragjob.evaluation.squad import accepted_answers, contains, exact_match, f1, normalize

TEXTS = st.lists(
    st.sampled_from(
        ["the", "The", "a", "An", "U.S.", "12,000", "tram-line", "cat", "cat", "Émile", "«dog»", "—", "-", ""]
    ),
    max_size=6,
).map(" ".join)


def official(metric: Callable[[str, str], float], answer: str, answers: list[str]) -> float:
    """A metric as the script takes it over the accepted answers."""
    accepted = [text for text in answers if squad_metrics.normalize_answer(text)] or [""]
    return max(metric(text, answer) for text in accepted)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_exact_match_and_f1_equal_those_of_the_official_script(answer: str, answers: list[str]) -> None:
    accepted = accepted_answers(answers)
    assert exact_match(normalize(answer), accepted) == official(squad_metrics.compute_exact, answer, answers)
    assert f1(normalize(answer), accepted) == pytest.approx(official(squad_metrics.compute_f1, answer, answers))


@given(st.text())
def test_texts_are_normalized_as_by_the_official_script(text: str) -> None:
    assert normalize(text) == squad_metrics.normalize_answer(text)


def test_f1_equals_one_computed_by_hand() -> None:
    """Of three words, two are among the four accepted ones: precision 2/3, recall 1/2."""
    assert f1(normalize("The cheap, second rails!"), ["cheap", "cheap rails from quarry"]) == pytest.approx(4 / 7)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("It was Agnes Torrold who paid.", "agnes torrold"),
        ("They call it “the Withy Bridge”.", "Withy Bridge"),
        ("It runs Harbour–Moor daily.", "Moor"),
        ("1931 and 193", "193"),
        ("这座桥在北京市。", "北京"),
    ],
)
def test_an_accepted_answer_is_found_within_the_answer(answer: str, accepted: str) -> None:
    assert contains(normalize(answer), accepted_answers([accepted])) == 1


@pytest.mark.parametrize(
    ("answer", "accepted"), [("In 1931.", "193"), ("Trams.", "tram"), ("", "tram"), ("So.", "The")]
)
def test_part_of_a_word_is_not_an_answer(answer: str, accepted: str) -> None:
    assert contains(normalize(answer), accepted_answers([accepted])) == 0
