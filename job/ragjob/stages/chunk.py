"""Cut documents into chunks."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa

from ragjob.documents.chunking import Splitter, WordCounter
from ragjob.documents.contexts import BETWEEN, Contexts
from ragjob.documents.readers.document import Block
from ragjob.documents.settings import Chunk
from ragjob.documents.structure import Heading, Structure
from ragjob.documents.vocabulary import Vocabulary
from ragjob.ledger import schema
from ragjob.ledger.schema import MAX_TEXT_CHARS
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.models.tokenizer import TOKENIZER, open_tokenizer, text_tokens
from ragjob.stages.columns import Stage
from ragjob.stages.rows import attempt, foreign, row_error


class Piece(NamedTuple):
    """One chunk, by columns of `schema.CHUNKS`: `text` or `error` is set, or the text is "" beside the error."""

    text: str | None
    error: str | None = None
    context: str | None = None
    heading: str | None = None
    page: int | None = None


class Passage(NamedTuple):
    """A passage of a document: where its text begins there, and its page."""

    start: int
    text: str
    page: int | None


@dataclass(frozen=True)
class Pieces:
    """A document's chunks, how many passages it has that are too short, and the share of words that are unknown."""

    chunks: list[Piece]
    short_count: int = 0
    unknown_share: float = 0.0


def make(settings: Chunk, embed: Embed, model: Source) -> "ChunkStage":
    """A stage that counts tokens with the tokenizer of `model`, which isn't needed to cut lines."""
    if settings.strategy == "line" and TOKENIZER not in model.files.sizes:
        return ChunkStage(settings, None, None)
    counter, vocabulary = _measures(model)
    return ChunkStage(settings, counter, vocabulary, text_tokens(embed, model, "document"))


@lru_cache(maxsize=1)  # a worker makes its stages anew for each block
def _measures(model: Source) -> tuple[WordCounter, Vocabulary]:
    tokenizer = open_tokenizer(model)
    return WordCounter(tokenizer), Vocabulary(tokenizer)


class ChunkStage(Stage):
    """Cut by `line`, or by `tokens`: at heading, paragraph, sentence or word boundaries within `size` tokens.

    No chunk goes over the end of a page. The stage takes one row per document and returns one per chunk, with an error
    for what can't be embedded; the text of that is "" if the document holds nothing, else null. Without a
    `vocabulary`, no word counts as unknown. The model reads `room` tokens of a chunk with its context, or any number if
    that is None.
    """

    NAME = "chunk"
    NEEDS = schema.READ
    ADDS = schema.columns(*(name for name in schema.CHUNKS.names if name not in schema.READ.names))
    DROPS = frozenset({schema.BLOCKS})

    def __init__(
        self,
        settings: Chunk,
        counter: WordCounter | None,
        vocabulary: Vocabulary | None,
        room: int | None = None,
    ) -> None:
        self._min_chars = settings.min_chars
        self._spans: Callable[[str, Sequence[Block]], Iterable[tuple[int, int]]] = _lines
        if counter and settings.strategy == "tokens":
            self._spans = Splitter(counter, settings.size, settings.overlap).spans
        self._vocabulary = vocabulary
        size = None if settings.strategy == "line" else settings.size
        self._contexts = Contexts(settings.context, counter, room, size)

    def __call__(self, documents: pa.Table) -> pa.Table:
        columns: dict[str, list[object]] = {name: [] for name in schema.CHUNKS.names}
        for document in documents.to_pylist():
            pieces, name = self._pieces(document), document[schema.DOCUMENT_ID]
            texts, errors, contexts, headings, pages = zip(*pieces.chunks, strict=True)
            count = len(texts)
            chunks = {
                schema.CHUNK_ID: schema.chunk_ids(name, range(count), [text or "" for text in texts]),
                schema.DOCUMENT_ID: [name] * count,
                schema.URI: [document[schema.URI]] * count,
                schema.CHUNK_INDEX: range(count),
                schema.TEXT: texts,
                schema.CONTEXT: contexts,
                schema.TITLE: [document[schema.TITLE]] * count,
                schema.HEADING: headings,
                schema.PAGE: pages,
                schema.METADATA: [document[schema.METADATA]] * count,
                schema.ERROR: errors,
                schema.SHORT_COUNT: [pieces.short_count] + [0] * (count - 1),
                schema.UNKNOWN_SHARE: [pieces.unknown_share] + [0] * (count - 1),
            }
            for column, values in columns.items():
                values.extend(chunks[column])
        return pa.table(columns, schema.CHUNKS)

    def _pieces(self, document: dict[str, Any]) -> Pieces:
        text, error = document[schema.TEXT], document[schema.ERROR]
        if error:
            return Pieces([Piece("" if text == "" else None, error)])
        pieces = attempt(lambda: self._cut(text, document[schema.BLOCKS], document[schema.TITLE]))
        if isinstance(pieces, Exception):
            return Pieces([Piece(None, row_error(pieces, document[schema.DOCUMENT_ID]))])
        return pieces

    def _cut(self, text: str, blocks: list[dict[str, Any]] | None, title: str | None) -> Pieces:
        with foreign():
            structure = Structure(text, [Block(**block) for block in blocks or ()])
            passages = list(self._passages(structure))
            unknown_share = self._vocabulary.unknown_share(text) if self._vocabulary else 0.0
        kept = [passage for passage in passages if self._is_long_enough(passage.text)]
        with foreign():
            chunks = [
                self._piece(passage, structure.headings(passage.start, passage.start + len(passage.text)), title)
                for passage in kept
            ]
        few = f"no passage of more than {self._min_chars} characters; leave the document out, or lower chunk.min_chars"
        nothing = [Piece("", few)]
        return Pieces(chunks or nothing, len(passages) - len(chunks), unknown_share)

    def _passages(self, structure: Structure) -> Iterator[Passage]:
        for page in structure.pages():
            for start, end in self._spans(page.text, page.blocks):
                if start < end:
                    yield Passage(page.start + start, page.text[start:end], page.number)

    def _piece(self, passage: Passage, headings: list[Heading], title: str | None) -> Piece:
        start, text, page = passage
        if len(text) > MAX_TEXT_CHARS:
            long = f"passage has {len(text):,} characters, more than {MAX_TEXT_CHARS:,}"
            return Piece(None, f"{long}; split its line, or lower chunk.size")
        above = [heading.text for heading in headings if not start <= heading.start < start + len(text)]
        path = BETWEEN.join(heading.text for heading in headings)
        return Piece(text, context=self._contexts.context(title, above, text), heading=path or None, page=page)

    def _is_long_enough(self, passage: str) -> bool:
        """Whether it has more than `min_chars` characters, a full-width one counted as two."""
        if len(passage) > self._min_chars:
            return True
        return len(passage) + sum(unicodedata.east_asian_width(char) in "FW" for char in passage) > self._min_chars


def _lines(text: str, _: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """Where each line begins and ends without its margins."""
    begin = 0
    for line in text.split("\n"):
        inked = line.strip()
        start = begin + line.index(inked)
        yield start, start + len(inked)
        begin += len(line) + 1
