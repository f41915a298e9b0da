"""Terms of texts in several languages and scripts."""

import pytest
from bm25s import stopwords
from Stemmer import Stemmer

from ragjob.retrieval.languages import LANGUAGES
from ragjob.retrieval.lexical.tokens import Tokenizer


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("en", "What don't the Conductors' books say?", ["conductor", "book", "say"]),
        ("en", "University_of_Notre-Dame, MAX_PAGES=12", ["universiti", "notr", "dame", "max", "page", "12"]),
        ("de", "Die Häuser der Straße", ["haus", "strass"]),
        ("ru", "и города", ["город"]),
        ("none", "The Houses", ["the", "houses"]),
        ("none", "नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("none", "東京タワー、駅", ["東京", "京タ", "タワ", "ワー", "駅"]),
        ("none", "서울역에서", ["서울", "울역", "역에", "에서"]),
        ("none", "ภาษา", ["ภา", "าษ", "ษา"]),
        ("none", "Kyoto京都", ["kyoto", "京都"]),
        ("none", "１２ ｶﾞｲﾄﾞ ﬁne", ["12", "ガイ", "イド", "fine"]),
        ("none", "cafe\u0301", ["café"]),
        ("en", "…!?", []),
    ],
)
def test_terms(language: str, text: str, terms: list[str]) -> None:
    assert Tokenizer(language).terms(text) == terms


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_every_language_has_its_stemmer_and_words(language: tuple[str, str | None]) -> None:
    algorithm, listed = language
    assert Stemmer(algorithm).stemWord("a") is not None
    assert listed is None or getattr(stopwords, listed)
