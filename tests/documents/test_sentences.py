from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.sentences import one_line, quotable


def quoted(text: str) -> list[str]:
    return [one_line(text[start:end]) for start, end in quotable(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It runs\nat night. So does  line 4.", ["It runs at night.", "So does line 4."]),
        ("Two words. Three words here.", ["Three words here."]),
        ("A first paragraph\n\nand a second one", ["A first paragraph", "and a second one"]),
        ("  # A long heading here\nText stands below it.", ["Text stands below it."]),
        ("北京是首都。好。车库有七条轨道！", ["北京是首都。", "车库有七条轨道！"]),
        ("รถรางวิ่งตอนกลางคืน", ["รถรางวิ่งตอนกลางคืน"]),
        ("", []),
    ],
)
def test_sentences_that_say_something_are_quoted_in_one_line(text: str, sentences: list[str]) -> None:
    assert quoted(text) == sentences


@given(st.text(st.sampled_from("ab #.!?\n 。」\u3000京"), max_size=60))
def test_sentences_follow_each_other_and_have_no_space_around_them(text: str) -> None:
    spans = quotable(text)
    assert spans == sorted(spans)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert [text[start:end].strip() for start, end in spans] == [text[start:end] for start, end in spans]
