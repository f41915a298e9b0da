"""The terms of a text: its words, stemmed, or pairs of characters in scripts that put no spaces between words."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

import regex

from ragjob.retrieval.languages import LANGUAGES, Language

STEMS_KEPT = 200_000  # those of the words seen last

_SCRIPTS = ("Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
_SPACELESS = "".join(rf"\p{{Script={name}}}" for name in _SCRIPTS) + "ー"
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_WORD_OR_RUN = regex.compile(rf"([[\p{{L}}\p{{M}}\p{{N}}]--[{_SPACELESS}]]+)|([{_SPACELESS}]+)", regex.V1)


class Tokenizer:
    """Finds the terms of texts in a language of `LANGUAGES`; without a language no word is stemmed or left out.

    >>> Tokenizer("en").terms("The conductors of line_12")
    ['conductor', 'line', '12']
    >>> Tokenizer("none").terms("京都駅 Straße")
    ['京都', '都駅', 'straße']
    """

    def __init__(self, language: str) -> None:
        self._stem = _stemmer(LANGUAGES[language]) if language in LANGUAGES else str

    def terms(self, text: str) -> list[str]:
        """The terms of `text`, in their order."""
        return [term for term in map(self._stem, _words(text)) if term]


def _words(text: str) -> Iterator[str]:
    if text.isascii():  # three times as fast
        yield from _ASCII_WORD.findall(text.lower())
        return
    for word, run in _WORD_OR_RUN.findall(unicodedata.normalize("NFKC", text).lower()):
        if word:
            yield word
        else:
            yield from (run[start : start + 2] for start in range(max(1, len(run) - 1)))


@lru_cache(maxsize=1)
def _stemmer(language: Language) -> Callable[[str], str]:
    """A function that gives a word's stem, or "" for a word that is left out."""
    from Stemmer import Stemmer

    from ragjob.retrieval.lexical.bm25 import stopwords

    listed = getattr(stopwords, language.stop_words) if language.stop_words else ()
    left_out = frozenset(part for word in listed for part in _words(word))
    stem = Stemmer(language.algorithm, 0).stemWord

    @lru_cache(maxsize=STEMS_KEPT)
    def stem_or_nothing(word: str) -> str:
        return "" if word in left_out else str(stem(word))

    return stem_or_nothing
