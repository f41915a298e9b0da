"""Show what one file gives: its documents with their blocks and chunks, as an index would have them."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from ragjob import storage
from ragjob.commands.setup import set_up
from ragjob.config import JobSettings
from ragjob.documents.inputs import list_documents
from ragjob.documents.units import plan_slices, scan_corpus
from ragjob.errors import SettingsError
from ragjob.ledger import schema
from ragjob.models.files import Source
from ragjob.models.source import resolve
from ragjob.models.tokenizer import TOKENIZER, count_tokens, open_tokenizer
from ragjob.stages import chunk
from ragjob.stages.read import ReadDocuments
from ragjob.storage.names import Entry


@dataclass(frozen=True)
class InspectedBlock:
    """A block of a document; `level` is that of `Block`."""

    kind: str
    level: int
    page: int | None
    text: str


@dataclass(frozen=True)
class InspectedChunk:
    """A chunk, or the error that takes its place. `tokens` counts those of the text, None without a tokenizer."""

    index: int
    page: int | None
    heading: str | None
    context: str | None
    tokens: int | None
    text: str | None
    error: str | None


@dataclass(frozen=True)
class InspectedDocument:
    """A document of the file. `short_passages` are left out of the index; `unknown_share` is of its words."""

    document_id: str
    title: str | None
    metadata: dict[str, Any]
    blocks: list[InspectedBlock]
    chunks: list[InspectedChunk]
    short_passages: int
    unknown_share: float


@dataclass(frozen=True)
class Inspection:
    """The first documents of a file, and how many it has."""

    file: str
    rows: int
    documents: list[InspectedDocument]


@dataclass(frozen=True)
class Inspect:
    """Read and chunk the first documents of a file. Nothing is embedded or written.

    Attributes:
        settings: the job's settings, of which those of corpus, chunks and embedding model are used.
        entry: the file.
        rows: how many documents to read, from a file that has one in each row.
        embedder: the embedding model, whose tokenizer counts tokens.
    """

    settings: JobSettings
    entry: Entry
    rows: int
    embedder: Source
    name: ClassVar[str] = "inspect"

    @classmethod
    def of(cls, settings: JobSettings, file: str, rows: int) -> Self:
        """The command for a file, local or on S3. Raises when the file or the embedding model isn't there."""
        set_up(settings)
        entries = list_documents(storage.absolute(file), "FILE").entries
        if len(entries) > 1:
            raise SettingsError(f"FILE: {file} stands for {len(entries):,} files; name one of them")
        embed = settings.embed
        embedder = resolve(embed.model, embed.revision, "embed.model", settings.models.cache)
        return cls(settings, entries[0], rows, embedder)

    def execute(self) -> Inspection:
        """Read the file and cut its documents. Raises `DataError` as `index` does for a file that it can't read."""
        segments = scan_corpus([self.entry], self.settings.corpus)
        unit = next(plan_slices(segments, self.rows, sum(segment.size for segment in segments) + 1))
        documents = ReadDocuments(self.settings.corpus, frozenset())(unit)
        chunks = chunk.make(self.settings.chunk, self.settings.embed, self.embedder)(documents)
        tokens = self._tokens(chunks[schema.TEXT].to_pylist())
        by_document: dict[str, list[tuple[dict[str, Any], int | None]]] = {}
        for row, count in zip(chunks.to_pylist(), tokens, strict=True):
            by_document.setdefault(row[schema.DOCUMENT_ID], []).append((row, count))
        shown = [_document(row, by_document[row[schema.DOCUMENT_ID]]) for row in documents.to_pylist()]
        return Inspection(self.entry.listed_uri, sum(segment.rows for segment in segments), shown)

    def _tokens(self, texts: list[str | None]) -> list[int | None]:
        if TOKENIZER not in self.embedder.files.sizes:
            return [None] * len(texts)
        return [*count_tokens(open_tokenizer(self.embedder), [text or "" for text in texts])]


def _document(row: dict[str, Any], chunks: list[tuple[dict[str, Any], int | None]]) -> InspectedDocument:
    first = chunks[0][0]
    return InspectedDocument(
        row[schema.DOCUMENT_ID],
        row[schema.TITLE],
        json.loads(row[schema.METADATA] or "{}"),
        _blocks(row[schema.TEXT] or "", row[schema.BLOCKS] or []),
        [_chunk(chunk, tokens) for chunk, tokens in chunks],
        first[schema.SHORT_COUNT],
        first[schema.UNKNOWN_SHARE],
    )


def _blocks(text: str, blocks: list[dict[str, Any]]) -> list[InspectedBlock]:
    ends = pairwise([*(block["start"] for block in blocks), None])
    return [
        InspectedBlock(block["kind"], block["level"], block["page"], text[start:end])
        for block, (start, end) in zip(blocks, ends, strict=True)
    ]


def _chunk(row: dict[str, Any], tokens: int | None) -> InspectedChunk:
    return InspectedChunk(
        row[schema.CHUNK_INDEX],
        row[schema.PAGE],
        row[schema.HEADING],
        row[schema.CONTEXT],
        tokens,
        row[schema.TEXT],
        row[schema.ERROR],
    )
