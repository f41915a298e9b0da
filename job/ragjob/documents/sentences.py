"""Where sentences begin and end, and which of them can be quoted."""

import re
from collections.abc import Iterator
from itertools import pairwise

import sentencex

# sentencex is given so many characters at a time, or a chunk's: its time may grow with their square.
SENTENCE_CHARS = 2048
# BERT's tokenizers drop \v \f \x1c to \x1f and \x85, which Python takes for spaces, and join what they part.
SPACE, INK = r"[^\S\v\f\x1c-\x1f\x85]", r"[\S\v\f\x1c-\x1f\x85]"
SPACES = frozenset(char for char in map(chr, range(0x3001)) if re.match(SPACE, char))
WIDE_SPACE = re.compile(r"[^\S\x00-\x7f]")  # between a letter and a stop makes sentencex panic
# Behind these marks and the quotes that close them, a sentence needs no space.
CLOSE_ENDS = tuple("。！？｡．‼⁇⁈⁉︒﹒﹖﹗။።")
WIDE_QUOTES = frozenset("」』）》〉】")
QUOTES = "".join(WIDE_QUOTES) + "”’\"'"

MIN_WORDS, MIN_UNSPACED = 3, 4
# Lines that follow each other without a blank one or a heading between them.
BLOCK = re.compile(r"(?:^(?!\s*#).*\S.*(?:\n|\Z))+", re.MULTILINE)
# Characters of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese.
UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def sentence_borders(text: str, most: int = SENTENCE_CHARS) -> list[int]:
    """Where sentences begin, 0 and the end of `text` included; those longer than `most` characters may be joined."""
    # sentencex knows Burmese's mark, but neither Khmer's nor Tibetan's.
    marked = WIDE_SPACE.sub(" ", text).replace("។", "။").replace("།", "။")
    ends = (end for end in _sentence_ends(marked, most) if end < len(text))
    starts = {end if marked[end] in SPACES else _behind_mark(marked, end) for end in ends}
    return sorted({0, *starts, len(text)})


def quotable(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a passage begin and end: headings (lines with a #) and fragments are left out.

    >>> text = "# Depots\\nThe depot has\\nseven tracks. Why? It stands in Net Street."
    >>> [one_line(text[start:end]) for start, end in quotable(text)]
    ['The depot has seven tracks.', 'It stands in Net Street.']
    """
    spans = []
    for block in BLOCK.finditer(text):
        for start, end in pairwise(sentence_borders(block[0])):
            sentence = block[0][start:end]
            if len(sentence.split()) >= MIN_WORDS or len(UNSPACED.findall(sentence)) >= MIN_UNSPACED:
                begin = block.start() + end - len(sentence.lstrip())
                spans.append((begin, begin + len(sentence.strip())))
    return spans


def one_line(sentence: str) -> str:
    """A sentence as it is embedded and quoted."""
    return " ".join(sentence.split())


def _behind_mark(text: str, end: int) -> int:
    """Where the next sentence begins if the one up to `end` needs no space behind it, else 0."""
    while text[end : end + 1] in WIDE_QUOTES:  # sentencex doesn't know all of them
        end += 1
    return end if text[max(0, end - 9) : end].rstrip(QUOTES).endswith(CLOSE_ENDS) else 0


def _sentence_ends(text: str, most: int) -> Iterator[int]:
    """Where sentences end, those longer than `most` characters perhaps left out."""
    begin = 0
    while begin < len(text):
        boundaries = sentencex.get_sentence_boundaries("en", text[begin : begin + most])
        ends = [begin + one["start_index"] + len(kept) for one in boundaries if (kept := one["text"].rstrip())]
        is_last = begin + most >= len(text)
        yield from ends if is_last else ends[:-1]  # the last one is cut off
        begin = ends[-2] if len(ends) > 1 and not is_last else begin + most
