import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from ragjob.documents.vocabulary import Vocabulary
from tests.fakes import tiny_tokenizer

DIGITS = random.Random(0).randbytes(10_000)


@pytest.fixture(scope="session")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """Of MiniLM, which was taught English."""
    return Vocabulary(tokenizer)


@pytest.mark.parametrize(
    "text",
    [
        "รถรางหยุดที่สถานีทุกสิบนาทีและออกเดินทางไปยังท่าเรือ " * 30,
        "สิบ ถึง ฉัน ทุก",
        "🦄🦄 🐙 🪐🪐🪐",
        DIGITS.hex(),
        "letters" * 40,
        "A short heading\n" + "รถรางหยุดที่สถานีทุกสิบนาที" * 300,
    ],
    ids=["Thai", "Thai words", "emoji", "hex", "letters", "heading"],
)
def test_words_that_no_token_stands_for_are_unknown(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.unknown_share(text) > 0.5


@pytest.mark.parametrize(
    "text",
    [
        "The depot holds forty cars — “all of them green”, says Zoë. " * 100,
        "Le dépôt abrite quarante tramways.",
        "Трамвай стоит в депо.",
        f"The digest of the file is {DIGITS.hex()[:64]}, and nobody can read that.",
        base64.b64encode(DIGITS).decode(),  # it has punctuation, and what stands between is short
        "def depot(cars: int) -> None:\n    return {'cars': cars}\n",
        "We won 🎉🎉 the cup",
        "",
        " \n",
    ],
)
def test_words_made_of_known_letters_are_known(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.unknown_share(text) < 0.3


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_share_counts_words(vocabulary: Vocabulary, unknown: int, known: int) -> None:
    text = "🦄 " * unknown + "tram " * known
    assert vocabulary.unknown_share(text) == unknown / (unknown + known)


def test_a_long_text_is_judged_by_parts_of_all_of_it(vocabulary: Vocabulary) -> None:
    assert 0.5 < vocabulary.unknown_share("รถราง " * 40_000 + "tram " * 24_000) < 0.9
    assert vocabulary.unknown_share("tram " * 100_000 + "รถราง " * 20_000) < 0.3


def test_a_tokenizer_of_bytes_knows_every_word() -> None:
    assert Vocabulary(tiny_tokenizer().backend_tokenizer).unknown_share("รถราง 🦄 " + DIGITS.hex()) == 0


def test_a_tokenizer_without_english_letters_doesnt_know_english() -> None:
    chinese = Tokenizer(models.WordLevel({"电": 0, "车": 1, "<unk>": 2}, unk_token="<unk>"))
    chinese.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = Vocabulary(chinese)
    assert (vocabulary.unknown_share("tram depot"), vocabulary.unknown_share("电 车")) == (1, 0)
