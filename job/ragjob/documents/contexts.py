"""What is embedded before a chunk's text: its document's title, and the headings above it."""

from collections.abc import Sequence

from ragjob.documents.chunking import CHARS_PER_TOKEN, Splitter, WordCounter

BETWEEN = " > "
MIN_TOKENS = 4  # a context shorter than that says too little
MAX_TOKENS = 100  # a longer one would drown the text
JOINT_TOKENS = 2  # that two texts may have more together, where tokens of words don't add up


class Contexts:
    """Makes contexts of a `kind` (of `chunk.context`) that fit into `room` tokens together with their chunks.

    Without a `counter` or a `room`, they fit with any chunk. In any case, a context has at most
    `MAX_TOKENS`, and `CHARS_PER_TOKEN` characters for each token that it may have. `size` is the most tokens that a
    chunk has, if that is known.
    """

    def __init__(self, kind: str, counter: WordCounter | None, room: int | None, size: int | None = None) -> None:
        self._kind = kind
        self._counter = counter
        self._room = None
        if counter is not None and room is not None:
            # The line break behind the context is read, too.
            self._room = room - counter.count("\n") - (0 if counter.adds_up else JOINT_TOKENS)
        self._sure = self._left(size or self._room or 0)

    def context(self, title: str | None, headings: Sequence[str], text: str) -> str | None:
        """The context of `text`; None if it has none.

        `headings` are those that enclose it and aren't in it, outermost first. What doesn't fit is left out:
        headings from the outermost, then the end of the title.
        """
        inner = [heading for heading in headings if heading != title] if self._kind == "heading" else []
        parts = [title, *inner] if title else inner
        if self._kind == "none" or not parts:
            return None
        if self._fits(parts, self._sure):
            return BETWEEN.join(parts)
        left = self._left(self._tokens(text))
        while not self._fits(parts, left):
            if len(parts) == 1:
                return self._beginning(parts[0], left)
            del parts[1 if title else 0]
        return BETWEEN.join(parts)

    def _left(self, tokens: int) -> int:
        """Tokens of a context for a text of so many."""
        return MAX_TOKENS if self._room is None else min(MAX_TOKENS, self._room - tokens)

    def _fits(self, parts: list[str], left: int) -> bool:
        joined = BETWEEN.join(parts)
        return len(joined) <= CHARS_PER_TOKEN * left and self._tokens(joined) <= left

    def _tokens(self, text: str) -> int:
        return self._counter.count(text) if self._counter else 0

    def _beginning(self, text: str, left: int) -> str | None:
        """As much of `text` as has `left` tokens, up to the end of a word or sentence."""
        if left < MIN_TOKENS:
            return None
        if self._counter is None:
            return text[: CHARS_PER_TOKEN * left]
        # Twice as much as may stay: the splitter sees where the last word ends.
        return next(Splitter(self._counter, left, 0).split(text[: 2 * CHARS_PER_TOKEN * left]), None)
