"""What is embedded before a chunk's text: its document's title, and the headings that it stands under."""

from collections.abc import Sequence

from ragjob.documents.chunking import CHARS_PER_TOKEN, WordCounter

BETWEEN = " > "
MIN_TOKENS = 4  # a context shorter than that says too little


class Contexts:
    """Makes contexts of a `kind`, as `chunk.context` has it, which fit with their chunks into `room` tokens.

    Without a `counter` a context may be of any length, and so for None as the room.
    """

    def __init__(self, kind: str, counter: WordCounter | None, room: int | None) -> None:
        self._kind = kind
        self._counter = counter
        self._room = room

    def context(self, title: str | None, headings: Sequence[str], text: str) -> str | None:
        """What stands before `text`; None for nothing.

        `headings` are those that enclose it and don't stand in it, outermost first. What doesn't fit is left out:
        headings from the outermost, then the end of the title.
        """
        inner = [heading for heading in headings if heading != title] if self._kind == "heading" else []
        parts = [title, *inner] if title else inner
        if self._kind == "none" or not parts:
            return None
        left = self._left(text)
        while self._tokens(BETWEEN.join(parts)) > left:
            if len(parts) == 1:
                return self._cut(parts[0], left)
            del parts[1 if title else 0]
        return BETWEEN.join(parts)

    def _left(self, text: str) -> float:
        if self._counter is None or self._room is None:
            return float("inf")
        return self._room - self._tokens(text)

    def _tokens(self, text: str) -> int:
        return self._counter.count(text) if self._counter else 0

    def _cut(self, text: str, left: float) -> str | None:
        """The beginning of `text` that has `left` tokens."""
        if left < MIN_TOKENS:
            return None
        kept = text[: int(CHARS_PER_TOKEN * left)]
        while kept and self._tokens(kept) > left:
            kept = kept.rpartition(" ")[0].rstrip()
        return kept or None
