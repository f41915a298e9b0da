"""Where a text may be cut without splitting what a reader sees as one character."""

import regex

LONGEST = 64  # code points of a character that is kept whole; no writing system needs as many


def cut(text: str, most: int) -> str:
    """The beginning of `text`, at most `most` code points, with no character split unless it is longer than that.

    >>> cut("cafe\\u0301s", 4)
    'caf'
    """
    if len(text) <= most:
        return text
    begin = max(0, most - LONGEST)
    characters = regex.finditer(r"\X", text[begin : most + LONGEST])
    ends = [end for character in characters if (end := begin + character.end()) <= most]
    return text[: max(ends, default=most)]
