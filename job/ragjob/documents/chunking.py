"""Split texts into chunks of at most so many tokens, at the best boundaries there are."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise

import numpy as np
import sentencex
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from ragjob.models.tokenizer import count_tokens

KNOWN_WORDS = 200_000  # have their tokens kept
WINDOW_CHARS = 1 << 20  # of a text are outlined at a time: memory stays flat
CHARS_PER_TOKEN = 8  # hardly ever more
# sentencex is given so many characters at a time, or a chunk's: its time may grow with their square.
SENTENCE_CHARS = 2048
# BERT's tokenizers drop \v \f \x1c to \x1f and \x85, which Python takes for spaces, and join what they part.
SPACE, INK = r"[^\S\v\f\x1c-\x1f\x85]", r"[\S\v\f\x1c-\x1f\x85]"
WORD = re.compile(f"{SPACE}*{INK}+")
PART = re.compile(r"\W*\w+\W*|\W+")
WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")  # between a letter and a stop makes sentencex panic
SPACES = frozenset(char for char in map(chr, range(0x3001)) if re.match(SPACE, char))
CLOSE_ENDS = frozenset("。！？｡」』")  # behind these a sentence needs no space


class WordCounter:
    """Counts the tokens of words, each with the space before it, and of each distinct word only once.

    Where `adds_up`, a text has exactly as many tokens as its words together; else that is an estimate.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}
        self.adds_up = _reads_words_alone(tokenizer)
        # Some put a space before every text themselves: the word's own would be a second.
        alone, spaced = count_tokens(tokenizer, ["a", " a"])
        self._left_out = " " if spaced > alone else ""

    def count_words(self, words: list[str]) -> list[int]:
        """Tokens of each word."""
        if new := list(set(words).difference(self._known)):
            if len(self._known) + len(new) > KNOWN_WORDS:
                self._known.clear()
                new = list(set(words))
            self._learn(new)
        return [self._known[word] for word in words]

    def _learn(self, words: list[str]) -> None:
        bare = [word.removeprefix(self._left_out) for word in words]
        # As one sequence: several would be spread over all cores, of which a worker has but its share.
        encoding = self._tokenizer.encode(bare, is_pretokenized=True, add_special_tokens=False)
        counts = np.bincount(np.array(encoding.word_ids, np.int64), minlength=len(words))
        self._known.update(zip(words, counts.tolist(), strict=True))

    def count_text(self, text: str) -> int:
        """Tokens of a text."""
        return count_tokens(self._tokenizer, [text])[0]


def _reads_words_alone(tokenizer: Tokenizer) -> bool:
    """Whether no token reaches over a space, and none is one: so it is with BERT's."""
    if not isinstance(tokenizer.pre_tokenizer, BertPreTokenizer) or not isinstance(
        tokenizer.normalizer, BertNormalizer
    ):
        return False
    added = tokenizer.get_added_tokens_decoder().values()
    return tokenizer.normalizer.clean_text and not any(re.search(SPACE, token.content) for token in added)


class Splitter:
    """Cuts texts into chunks of at most `size` tokens, each sharing at most `overlap` with the one before.

    A chunk is filled with whole paragraphs. One that no longer fits begins the next chunk or, if it is longer than a
    chunk, is taken apart: into lines that end with a sentence, else sentences, lines, words. A word longer than a
    chunk is cut at its punctuation, else anywhere. Sentences are what sentencex takes for such in English. Chunks
    share whole sentences, or lines or words where the first of two ends within a sentence.
    """

    def __init__(self, counter: WordCounter, size: int, overlap: int) -> None:
        self._counter = counter
        self._size = size
        self._overlap = overlap

    def split(self, text: str) -> Iterator[str]:
        """The chunks of `text`, without the space around them. Those of two windows share nothing."""
        if self._is_chunk(text.strip()):
            yield text.strip()
            return
        begin = 0
        while begin < len(text):
            outline = Outline(text[begin : begin + WINDOW_CHARS].rstrip(), self._counter, self._size)
            sums, last = outline.sums, len(outline.sums) - 1
            if begin + WINDOW_CHARS < len(text):
                # What lies up to three chunks ahead decides where a chunk ends, and is cut off by the window.
                last = bisect_left(sums, sums[-1] - 3 * self._size) or last
            position = 0
            while position < last:
                start, position = self._next(outline, position)
                yield outline.text(start, position)
            begin += WINDOW_CHARS if position == len(sums) - 1 else outline.borders[position]

    def _is_chunk(self, text: str) -> bool:
        if not 0 < len(text) <= CHARS_PER_TOKEN * self._size:
            return False
        estimate = sum(self._counter.count_words(WORD.findall(text)))
        return estimate <= self._size and (self._counter.adds_up or self._counter.count_text(text) <= self._size)

    def _next(self, outline: "Outline", position: int) -> tuple[int, int]:
        """The words (first, last + 1) of the chunk behind `position`, those it shares included."""
        starts = outline.starts(position, self._overlap)
        room = self._size
        while True:
            start, end = self._propose(outline, starts, room)
            excess = outline.count(start, end) - self._size
            if excess <= 0 or end - start == 1:
                return start, end
            room -= excess

    def _propose(self, outline: "Outline", starts: list[int], room: int) -> tuple[int, int]:
        """The same, as far as sums of tokens tell."""
        sums, position = outline.sums, starts[-1]
        limit = max(bisect_right(sums, sums[starts[0]] + room) - 1, position)
        if limit == len(sums) - 1:
            return starts[0], limit
        for level in outline.levels:
            place = bisect_right(level, limit)
            first, end = level[place - 1], level[place]
            if first >= position and (level is outline.levels[-1] or self._fits(outline, first, end, room)):
                break
        if first > position:
            return starts[0], first
        return next((start for start in starts if sums[end] - sums[start] <= room), position), end

    def _fits(self, outline: "Outline", first: int, end: int, room: int) -> bool:
        excess = outline.sums[end] - outline.sums[first] - room
        if excess <= 0 or outline.adds_up(first, end) or excess > self._size // 8 + 8:  # no estimate is so far off
            return excess <= 0
        return outline.count(first, end) <= self._size


class Outline:
    """The words of a text, their tokens, and where larger units begin.

    Word n stands from `borders[n]` to `borders[n + 1]` of the text, with the space before it, and has
    `sums[n + 1] - sums[n]` tokens. `levels` are the first words of paragraphs, of lines that begin with a sentence,
    of sentences, of lines, and all words; each begins with 0, holds those of the level before, and ends with the
    number of words.
    """

    def __init__(self, text: str, counter: WordCounter, size: int) -> None:
        self._text = text
        self._counter = counter
        sentences = _sentences(text, max(SENTENCE_CHARS, CHARS_PER_TOKEN * size))
        counts = counter.count_words(list(chain.from_iterable(sentences)))
        if max(counts, default=0) > size // 2:
            sentences = [[part for word in words for part in _fitting(word, counter, size)] for words in sentences]
            counts = counter.count_words(list(chain.from_iterable(sentences)))
        words = list(chain.from_iterable(sentences))
        self._joints = [number for number, word in enumerate(words) if word[0] not in SPACES]
        self.borders = [0, *accumulate(map(len, words))]
        self.sums = [0, *accumulate(counts)]
        self.levels = _levels(words, sentences)

    def text(self, first: int, end: int) -> str:
        """Words `first` to `end` - 1, without the space around them."""
        return self._text[self.borders[first] : self.borders[end]].strip()

    def adds_up(self, first: int, end: int) -> bool:
        """Whether that text has as many tokens as its words together."""
        return self._counter.adds_up and bisect_right(self._joints, first) == bisect_left(self._joints, end)

    def count(self, first: int, end: int) -> int:
        """Tokens of that text."""
        if self.adds_up(first, end):
            return self.sums[end] - self.sums[first]
        return self._counter.count_text(self.text(first, end))

    def starts(self, position: int, overlap: int) -> list[int]:
        """Where the chunk behind `position` may begin so that it shares at most `overlap` tokens; last, there."""
        earliest = bisect_left(self.sums, self.sums[position] - overlap) if overlap else position
        level = next(level for level in self.levels[2:] if level[bisect_left(level, position)] == position)
        starts = list(level[bisect_left(level, earliest) : bisect_right(level, position)])
        while len(starts) > 1 and self.count(starts[0], position) > overlap:
            del starts[0]
        return starts


def _levels(words: list[str], sentences: list[list[str]]) -> list[Sequence[int]]:
    lines = [number for number, word in enumerate(words) if "\n" in word]
    paragraphs = {number for number in lines if words[number].count("\n") > 1}
    ends = {0, len(words)}
    starts = {*accumulate(map(len, sentences)), *paragraphs, *ends}
    nested = (paragraphs | ends, starts.intersection(lines) | ends, starts, starts.union(lines))
    return [*map(sorted, nested), range(len(words) + 1)]


def _sentences(text: str, most: int) -> list[list[str]]:
    """The words of each sentence, each with the space before it; `text` ends with none."""
    ends = _sentence_ends(WIDE_SPACE.sub(" ", text), most)
    inner = [end for end in ends if end < len(text) and (text[end] in SPACES or text[end - 1] in CLOSE_ENDS)]
    return [WORD.findall(text, *borders) for borders in pairwise([0, *inner, len(text)])]


def _sentence_ends(text: str, most: int) -> Iterator[int]:
    """Where sentences end, those longer than `most` characters perhaps left out."""
    begin = 0
    while begin < len(text):
        found = sentencex.get_sentence_boundaries("en", text[begin : begin + most])
        ends = [begin + one["start_index"] + len(kept) for one in found if (kept := one["text"].rstrip())]
        is_last = begin + most >= len(text)
        yield from ends if is_last else ends[:-1]  # the last one is cut off
        begin = ends[-2] if len(ends) > 1 and not is_last else begin + most


def _fitting(word: str, counter: WordCounter, size: int) -> Iterator[str]:
    """`word`, or the parts of it that fit a chunk."""
    if len(word) == 1 or counter.count_words([word])[0] <= size // 2 or counter.count_text(word.strip()) <= size:
        yield word
        return
    parts = PART.findall(word)
    for part in parts if len(parts) > 1 else word:
        yield from _fitting(part, counter, size)
