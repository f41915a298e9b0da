"""How much of a text a model's tokenizer knows."""

import string

import numpy as np
from tokenizers import Tokenizer

SAMPLE_PARTS, PART_CHARS = 8, 500  # of a longer text are looked at
LONG_CHARS = 100  # a longer word is unknown to WordPiece, whatever it is made of
WORD_CHARS = 20  # a longer word counts as several: some scripts put no space between words
UNKNOWN_TOKENS = ("<unk>", "[UNK]")  # of tokenizers that don't say which it is


class Vocabulary:
    """Finds words that a tokenizer has no tokens for: all of them look alike to its model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        names = [getattr(tokenizer.model, "unk_token", None), *UNKNOWN_TOKENS]
        tokens = [tokenizer.token_to_id(name) for name in names if name]
        self._unknown = [token for token in tokens if token is not None]
        self._knows_ascii = not any(self._unknown_chars([f"a{char}" for char in string.printable]))

    def unknown_share(self, text: str) -> float:
        """Share of the words that are unknown, from 0 to 1; estimated from a sample where a text is long.

        A word is unknown when half of its characters are.
        """
        words = _sample(text).split()
        doubtful = [word for word in words if len(word) > LONG_CHARS or not (self._knows_ascii and word.isascii())]
        if not doubtful:
            return 0.0
        unknown = self._unknown_chars(doubtful)
        weight = sum(_weight(word) for word, chars in zip(doubtful, unknown, strict=True) if 2 * chars >= len(word))
        return weight / sum(map(_weight, words))

    def _unknown_chars(self, words: list[str]) -> list[int]:
        """How many characters of each word are unknown."""
        encoding = self._tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        unknown = np.isin(encoding.ids, self._unknown)
        if not unknown.any():
            return [0] * len(words)
        spans = np.array(encoding.offsets)[unknown]
        numbers = np.array(encoding.word_ids)[unknown]
        counts = np.bincount(numbers, weights=spans[:, 1] - spans[:, 0], minlength=len(words))
        return [int(count) for count in counts]


def _weight(word: str) -> int:
    return -(-len(word) // WORD_CHARS)


def _sample(text: str) -> str:
    """`text`, or parts of it at even distances."""
    if len(text) <= SAMPLE_PARTS * PART_CHARS:
        return text
    distance = (len(text) - PART_CHARS) // (SAMPLE_PARTS - 1)
    return " ".join(text[begin : begin + PART_CHARS] for begin in range(0, SAMPLE_PARTS * distance, distance))
