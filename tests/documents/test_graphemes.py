import regex
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.graphemes import LONGEST, cut

CHARACTERS = st.lists(st.sampled_from(["a", "e\u0301", "👩\u200d👩\u200d👧", "ที่", "전", "\r\n", "🇳🇴", " "]))


@given(CHARACTERS.map("".join), st.integers(5, 40))
def test_a_text_is_cut_behind_the_last_whole_character_that_fits(text: str, most: int) -> None:
    begin = cut(text, most)
    (rest,) = regex.findall(r"^\X?", text[len(begin) :])
    assert text.startswith(begin)
    assert len(begin) <= most
    assert len(begin) + len(rest) > most or begin == text
    assert regex.findall(r"\X", begin) + regex.findall(r"\X", text[len(begin) :]) == regex.findall(r"\X", text)


def test_a_character_longer_than_all_of_them_is_cut() -> None:
    assert len(cut("e" + "\u0301" * 10 * LONGEST, 5 * LONGEST)) == 5 * LONGEST
