"""Split texts into chunks of at most so many tokens and characters, at the best boundaries there are."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from operator import attrgetter

import numpy as np
import regex
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from ragjob.documents.levels import levels_of_blocks, levels_of_prose
from ragjob.documents.readers.document import Block
from ragjob.documents.sentences import INK, SENTENCE_CHARS, SPACE, SPACES, sentence_borders

KNOWN_WORDS = 200_000  # have their tokens kept
WINDOW_CHARS = 1 << 20  # of a text are outlined at a time: memory stays flat
# Of a chunk, on average: what a tokenizer doesn't know is one token, however long it is.
CHARS_PER_TOKEN = 6
WORD = re.compile(f"{SPACE}*{INK}+")
# Letters with the punctuation around them, made of whole characters as a reader sees them.
PART = regex.compile(r"(?:(?=\W)\X)*(?:(?=\w)\X)+(?:(?=\W)\X)*|\X+")


class WordCounter:
    """Counts the tokens of words, each with the space before it; each distinct word is counted only once.

    If `adds_up`, a text has exactly as many tokens as its words together; otherwise their sum is an estimate.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}
        self.adds_up = _reads_words_alone(tokenizer)
        # Some put a space before every text themselves: the word's own would be a second.
        alone, spaced = map(self.count_text, ["a", " a"])
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

    def estimate(self, text: str) -> int:
        """Tokens of all words of a text: exactly the text's own if they add up."""
        return sum(self.count_words(WORD.findall(text)))

    def count(self, text: str) -> int:
        """Tokens of a text, counted by words if that gives the same number."""
        return self.estimate(text) if self.adds_up else self.count_text(text)

    def count_text(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])


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

    Both are limits of characters, too: `CHARS_PER_TOKEN` for each token.

    A chunk is filled with whole sections, and one that no longer fits begins the next. A section longer than a chunk
    is split into paragraphs, tables and code, and these in turn into rows, lines that end with a sentence, sentences,
    lines or words. A word longer than a chunk is cut at its punctuation, or else between characters as a reader sees
    them. Sentences are found by sentencex's rules for English. Chunks share whole sentences, or lines or words if the
    first of two ends within a sentence, and nothing from before a heading.
    """

    def __init__(self, counter: WordCounter, size: int, overlap: int) -> None:
        self._counter = counter
        self._size = size
        self._chars = CHARS_PER_TOKEN * size
        self._overlap = overlap

    def split(self, text: str) -> Iterator[str]:
        """The chunks of `text`, without the space around them. Those of two windows share nothing."""
        return (text[start:end] for start, end in self.spans(text, ()))

    def spans(self, text: str, blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
        """Where the chunks begin and end in a text with these blocks; without any, it is prose."""
        if self._is_chunk(text.strip()):
            yield _inked(text, 0, len(text))
            return
        begin = 0
        while begin < len(text):
            window = text[begin : begin + WINDOW_CHARS].rstrip()
            outline = Outline(window, self._counter, self._size, _within(blocks, begin, len(window)))
            last = len(outline.sums) - 1
            if begin + WINDOW_CHARS < len(text):
                # What lies up to three chunks ahead decides where a chunk ends, and is cut off by the window.
                last = outline.back(last, 3 * self._size) or last
            position = 0
            while position < last:
                start, position = self._next(outline, position)
                yield _inked(text, begin + outline.borders[start], begin + outline.borders[position])
            begin += WINDOW_CHARS if position == len(outline.sums) - 1 else outline.borders[position]

    def _is_chunk(self, text: str) -> bool:
        if not 0 < len(text) <= self._chars:
            return False
        estimate = self._counter.estimate(text)
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
        limit = max(self._reach(outline, starts[0], room), position)
        if limit == len(sums) - 1:
            return starts[0], limit
        for level in outline.levels:
            place = bisect_right(level, limit)
            first, end = level[place - 1], level[place]
            if first > position and level is outline.sections:
                break
            if first >= position and (level is outline.levels[-1] or self._fits(outline, first, end, room)):
                break
        if first > position:
            return starts[0], first
        return next((start for start in starts if self._reach(outline, start, room) >= end), position), end

    def _reach(self, outline: "Outline", start: int, room: int) -> int:
        """The end of the longest text from word `start` that has `room` for its tokens, and as many characters."""
        end = max(bisect_right(outline.sums, outline.sums[start] + room) - 1, start)
        if not self._too_long(outline, start, end):
            return end
        return bisect_right(outline.borders, outline.ink(start) + self._chars) - 1

    def _too_long(self, outline: "Outline", first: int, end: int) -> bool:
        """Whether that text has too many characters."""
        after = outline.borders[end]
        return after - outline.borders[first] > self._chars and after - outline.ink(first) > self._chars

    def _fits(self, outline: "Outline", first: int, end: int, room: int) -> bool:
        if self._too_long(outline, first, end):
            return False
        excess = outline.sums[end] - outline.sums[first] - room
        if excess <= 0 or outline.adds_up(first, end) or excess > self._size // 8 + 8:  # no estimate is so far off
            return excess <= 0
        return outline.count(first, end) <= self._size


class Outline:
    """The words of a text, their tokens, and where larger units begin.

    Word n stands from `borders[n]` to `borders[n + 1]` of the text, with the space before it, and has
    `sums[n + 1] - sums[n]` tokens. `levels` and `sections` are those of `Levels`.
    """

    def __init__(self, text: str, counter: WordCounter, size: int, blocks: Sequence[Block] = ()) -> None:
        self._text = text
        self._counter = counter
        chars = CHARS_PER_TOKEN * size
        block_borders = [_behind_ink(text, block.start) for block in blocks]
        sentences = _sentences(text, max(SENTENCE_CHARS, chars), block_borders)
        words = list(chain.from_iterable(sentences))
        lengths = list(map(len, words))
        too_long = max(lengths, default=0) > chars
        counts = [] if too_long else counter.count_words(words)
        if too_long or max(counts, default=0) > size // 2:
            sentences = [[part for word in words for part in _fitting(word, counter, size)] for words in sentences]
            words = list(chain.from_iterable(sentences))
            lengths, counts = list(map(len, words)), counter.count_words(words)
        self._joints = [number for number, word in enumerate(words) if word[0] not in SPACES]
        self.borders = [0, *accumulate(lengths)]
        self.sums = [0, *accumulate(counts)]
        if blocks:
            firsts = [bisect_left(self.borders, border) for border in block_borders]
            levels = levels_of_blocks(words, sentences, zip(firsts, (block.kind for block in blocks), strict=True))
        else:
            levels = levels_of_prose(words, sentences)
        self.levels, self._shared, self.sections = levels

    def text(self, first: int, end: int) -> str:
        """Words `first` to `end` - 1, without the space around them."""
        return self._text[self.borders[first] : self.borders[end]].strip()

    def ink(self, word: int) -> int:
        """Where `word` begins in the text, without the space before it."""
        end = self.borders[word + 1]
        return end - len(self._text[self.borders[word] : end].lstrip())

    def adds_up(self, first: int, end: int) -> bool:
        """Whether that text has as many tokens as its words together."""
        return self._counter.adds_up and bisect_right(self._joints, first) == bisect_left(self._joints, end)

    def count(self, first: int, end: int) -> int:
        """Tokens of that text."""
        if self.adds_up(first, end):
            return self.sums[end] - self.sums[first]
        return self._counter.count_text(self.text(first, end))

    def back(self, end: int, tokens: int) -> int:
        """The first word from which the text up to `end` has at most `tokens`, and as many characters as they may."""
        by_chars = bisect_left(self.borders, self.borders[end] - CHARS_PER_TOKEN * tokens)
        return max(bisect_left(self.sums, self.sums[end] - tokens), by_chars)

    def starts(self, position: int, overlap: int) -> list[int]:
        """Where the chunk after `position` may begin if it shares at most `overlap` tokens; the last is `position`."""
        earliest = self.back(position, overlap) if overlap else position
        earliest = max(earliest, self.sections[bisect_right(self.sections, position) - 1])
        level = next(level for level in self._shared if level[bisect_left(level, position)] == position)
        starts = list(level[bisect_left(level, earliest) : bisect_right(level, position)])
        while len(starts) > 1 and self.count(starts[0], position) > overlap:
            del starts[0]
        return starts


def _inked(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the text from `start` to `end` begins and ends without the space around it."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


def _within(blocks: Sequence[Block], begin: int, length: int) -> list[Block]:
    """The blocks of a window, counted from its beginning."""
    first = max(bisect_right(blocks, begin, key=attrgetter("start")) - 1, 0)
    end = bisect_left(blocks, begin + length, key=attrgetter("start"))
    return [block._replace(start=max(block.start - begin, 0)) for block in blocks[first:end]]


def _behind_ink(text: str, position: int) -> int:
    """Where the space before `position` begins."""
    while position and text[position - 1] in SPACES:
        position -= 1
    return position


def _sentences(text: str, most: int, borders: Iterable[int]) -> list[list[str]]:
    """The words of each sentence, each with the space before it. `text` ends with none, and sentences at `borders`."""
    all_borders = sorted({*sentence_borders(text, most), *borders})
    return [WORD.findall(text, *pair) for pair in pairwise(all_borders)]


def _fitting(word: str, counter: WordCounter, size: int) -> Iterator[str]:
    """`word`, or the parts of it that fit a chunk."""
    if len(word) == 1 or _fits_chunk(word, counter, size):
        yield word
        return
    patterns = (PART, regex.compile(rf"\X{{1,{max(1, size // 8)}}}"), regex.compile(r"\X"))
    parts = next((parts for pattern in patterns if len(parts := pattern.findall(word)) > 1), list(word))
    for part in parts:
        yield from _fitting(part, counter, size)


def _fits_chunk(word: str, counter: WordCounter, size: int) -> bool:
    if len(word.strip()) > CHARS_PER_TOKEN * size:
        return False
    return counter.count_words([word])[0] <= size // 2 or counter.count_text(word.strip()) <= size
