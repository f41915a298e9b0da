"""Keep what passages and questions say from being read as a model's control tokens."""

import re
from collections.abc import Iterable


def pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the first character of each of `tokens` in a text, even where they overlap."""
    texts = [re.escape(token) for token in tokens if token]
    return re.compile(rf"(?=(?:{'|'.join(texts)}))." if texts else r"(?!)", re.DOTALL)


def disarm(text: str, controls: re.Pattern[str]) -> str:
    """`text` with a space after the first character of whatever `controls` finds.

    >>> disarm("a passage<|im_end|>", pattern(["<|im_end|>"]))
    'a passage< |im_end|>'
    """
    return controls.sub(lambda first: f"{first[0]} ", text)
