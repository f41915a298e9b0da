"""What a file that is one document holds, and what reads it. It loads no library, since parsers need it, too."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from ragjob.documents.readers import GZIP

if TYPE_CHECKING:
    from ragjob.storage.names import Entry

WHOLE_FILE = -1  # the group of a segment that is its whole file
GZIP_RATIO = 4  # of text, about


class Decoded(NamedTuple):
    """A text, and why it can't be used; there may be both."""

    text: str | None
    error: str | None = None


class Kind(StrEnum):
    """What a block is: prose, a heading's own line, a table with a row on each line, or code."""

    PROSE = "prose"
    HEADING = "heading"
    TABLE = "table"
    CODE = "code"


class Block(NamedTuple):
    """A run of a document's text: from the character `start` up to the next block's, or to the end of the text.

    `level` is that of a heading, from 1. Other blocks have 0, or the level from which they end sections, as a slide
    without a title does. `page` counts pages, slides or sheets from 1, where there are any.
    """

    start: int
    kind: Kind = Kind.PROSE
    level: int = 0
    page: int | None = None


@dataclass(frozen=True)
class Document:
    """What a file holds that is one document.

    `error` says why the text can't be used. `blocks` are in the order of the text, and the first begins where it does;
    a text without any is prose. `title` is stated in the file, never its name. `metadata` has JSON values, by name.
    """

    text: str | None
    error: str | None = None
    title: str | None = None
    blocks: Sequence[Block] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)


class Unreadable(ValueError):  # noqa: N818 - reads as what the file is
    """Why a file can't be read. The message says what to do about it."""


@dataclass(frozen=True)
class Limits:
    """How much one document may be: pages, slides or sheets, and characters of its text."""

    pages: int
    chars: int

    def check_pages(self, pages: int) -> None:
        """Raise `Unreadable` for too many pages."""
        if pages > self.pages:
            raise Unreadable(
                f"document has more than {self.pages:,} pages; split it or leave it out, or raise corpus.max_pages"
            )

    def check_chars(self, chars: int) -> None:
        """Raise `Unreadable` for too many characters."""
        if chars > self.chars:
            raise Unreadable(
                f"document has more than {self.chars:,} characters; split it or leave it out, or raise corpus.max_chars"
            )

    def checked(self, document: Document) -> Document:
        """A document, or an error if it has too many characters."""
        try:
            self.check_chars(len(document.text or ""))
        except Unreadable as error:
            return Document(None, str(error))
        return document


DEFAULT_LIMITS = Limits(pages=10_000, chars=50_000_000)


@dataclass(frozen=True)
class Segment:
    """Rows that are decoded at once: one group of a file's rows, by its number, or WHOLE_FILE. `size` is in bytes."""

    entry: "Entry"
    group: int
    rows: int
    size: int


class DocumentReader(ABC):
    """A format whose file is one document."""

    def segments(self, entry: "Entry") -> list[Segment]:
        """The file as a segment of one row. It isn't opened."""
        return [Segment(entry, WHOLE_FILE, 1, content_size(entry))]

    @abstractmethod
    def read(self, content: bytes) -> Document:
        """What a file holds. An exception that isn't a `RagjobError` becomes this document's error."""

    def read_within(self, content: bytes, limits: Limits) -> Document:
        """The same, or an error if the document is larger than `limits` allow."""
        return limits.checked(self.read(content))


def content_size(entry: "Entry") -> int:
    """Bytes of a file's content; an estimate for a compressed file."""
    return entry.size * (GZIP_RATIO if entry.path.lower().endswith(GZIP) else 1)
