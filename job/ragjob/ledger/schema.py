"""Column names, Arrow schemas and ids: what is on storage, and how a thing gets its name."""

import hashlib
import json
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

# Raised when the code's chunks or vectors (index) or its answers (run) would differ for equal settings.
INDEX_FORMAT = 3
ANSWER_FORMAT = 2
# Raised when other sentences of a passage would be embedded, as when `documents.sentences.quotable` changes.
SENTENCE_FORMAT = 2

_quote = json.JSONEncoder(ensure_ascii=False).encode  # of a text, as `digest` has it

METRIC = "cosine"
ID_CHARS = 24  # of what `digest` gives
MAX_TEXT_CHARS = 100_000  # a longer prompt or line is a mistake in the data, not a question or a passage

CHUNK_ID, DOCUMENT_ID, URI, CHUNK_INDEX, TEXT = "chunk_id", "document_id", "uri", "chunk_index", "text"
EMBEDDING, ERROR, SEGMENT = "embedding", "error", "segment"
# Of a document its title, its metadata (a JSON object) and its blocks; of a chunk its page, counted from 1, the path of
# headings that it stands under, and what stands before its text where it is embedded.
TITLE, METADATA, BLOCKS, PAGE, HEADING, CONTEXT = "title", "metadata", "blocks", "page", "heading", "context"
SHORT_COUNT, UNKNOWN_SHARE = "short_count", "unknown_share"
UNKNOWN_LIMIT = 0.5  # of a document's words: it is reported when the embedding model doesn't know more than that
ROW_ID, MEMBERS = "row_id", "members"  # a distinct embedded text, and the chunks that have it
PROMPT_ID, PROMPT, ANSWER = "prompt_id", "prompt", "answer"
RETRIEVED_IDS, RETRIEVED_DOCUMENT_IDS, RETRIEVED_URIS = "retrieved_ids", "retrieved_document_ids", "retrieved_uris"
RETRIEVED_TEXTS, RETRIEVED_SCORES = "retrieved_texts", "retrieved_scores"
RETRIEVED_SIMILARITIES, RETRIEVED_EQUALS = "retrieved_similarities", "retrieved_equals"
RETRIEVED_TITLES, RETRIEVED_PAGES, RETRIEVED_METADATA = "retrieved_titles", "retrieved_pages", "retrieved_metadata"
CITATIONS = "citations"  # positions, from 1, of the passages that an answer names
FINISH_REASON, PROMPT_TOKENS, COMPLETION_TOKENS = "finish_reason", "prompt_tokens", "completion_tokens"
# Columns of blocks on their way; never published.
POSITION, AUGMENTED, GIVEN, CACHED_TOKENS = "_position", "_augmented", "_given", "_cached_tokens"
WRONG_CITATIONS = "_wrong_citations"  # how many passages an answer names that it wasn't given
SENTENCES = "_sentences"  # of each passage, as `Sentence` has them; null where they weren't embedded
# Of a chunk: where its sentences stand in its text, and their vectors; null where they couldn't be embedded.
SPANS, SENTENCE_VECTORS = "spans", "sentence_vectors"
PART, PLACE = "part", "place"  # the name of a part of a segment, and a chunk's number in it, or in the segment


class Sentence(NamedTuple):
    """Where a sentence stands in its passage, and the cosine similarity of its embedding to the question's."""

    start: int
    end: int
    similarity: float


# What holds for a whole document stands in the row of its first chunk, and is 0 in the others.
CHUNKS = pa.schema(
    [
        (CHUNK_ID, pa.string()),
        (DOCUMENT_ID, pa.string()),
        (URI, pa.string()),
        (CHUNK_INDEX, pa.int32()),
        (TEXT, pa.string()),
        (CONTEXT, pa.string()),
        (TITLE, pa.string()),
        (HEADING, pa.string()),
        (PAGE, pa.int32()),
        (METADATA, pa.string()),
        (ERROR, pa.string()),
        (SHORT_COUNT, pa.int32()),  # of the document: passages left out because they are short
        (UNKNOWN_SHARE, pa.float32()),  # of the document: words that the embedding model doesn't know, from 0 to 1
    ]
)

# A document as it was read; the fields of a block are those of `documents.readers.base.Block`.
READ = pa.schema(
    [
        (DOCUMENT_ID, pa.string()),
        (URI, pa.string()),
        (TEXT, pa.string()),
        (TITLE, pa.string()),
        (METADATA, pa.string()),
        (
            BLOCKS,
            pa.list_(
                pa.struct([("start", pa.int64()), ("kind", pa.string()), ("level", pa.int32()), ("page", pa.int32())])
            ),
        ),
        (ERROR, pa.string()),
    ]
)

DOCUMENTS = pa.schema(
    [
        (DOCUMENT_ID, pa.string()),
        (URI, pa.string()),
        (TITLE, pa.string()),
        (METADATA, pa.string()),
        ("digest", pa.string()),
        ("chunk_count", pa.int32()),
        ("failed_count", pa.int32()),
        (SHORT_COUNT, pa.int32()),
        (UNKNOWN_SHARE, pa.float32()),
        (ERROR, pa.string()),
    ]
)
VERSION_DOCUMENTS = pa.schema([*DOCUMENTS, (SEGMENT, pa.string())])  # of all segments of a version
LISTING = pa.schema([("path", pa.string()), ("size", pa.int64()), ("tag", pa.string())])  # of a version's input files

RETRIEVED = pa.schema(
    [
        (RETRIEVED_IDS, pa.list_(pa.string())),
        (RETRIEVED_DOCUMENT_IDS, pa.list_(pa.string())),
        (RETRIEVED_URIS, pa.list_(pa.string())),
        (RETRIEVED_TITLES, pa.list_(pa.string())),
        (RETRIEVED_PAGES, pa.list_(pa.int32())),
        (RETRIEVED_METADATA, pa.list_(pa.string())),
        (RETRIEVED_TEXTS, pa.list_(pa.string())),
        (RETRIEVED_SCORES, pa.list_(pa.float32())),
        (RETRIEVED_SIMILARITIES, pa.list_(pa.float32())),
        (RETRIEVED_EQUALS, pa.list_(pa.int32())),
    ]
)

_BORDERS = [("start", pa.int32()), ("end", pa.int32())]
PARTS = pa.schema([(PART, pa.string())])  # of a segment
OF_SENTENCES = pa.schema([(SPANS, pa.list_(pa.struct(_BORDERS))), (SENTENCE_VECTORS, pa.list_(pa.list_(pa.float16())))])

GENERATED = pa.schema(
    [
        (ANSWER, pa.string()),
        (FINISH_REASON, pa.string()),
        (PROMPT_TOKENS, pa.int32()),
        (COMPLETION_TOKENS, pa.int32()),
    ]
)
CITED = pa.schema([(CITATIONS, pa.list_(pa.int32()))])

PROVENANCE = pa.schema([(name, pa.string()) for name in ("embed_model", "generate_model", "index_version", "run_id")])


def embedded(dimension: int) -> pa.Schema:
    """Schema of the column that embedding adds: float32 vectors of `dimension`."""
    return pa.schema([(EMBEDDING, pa.list_(pa.float32(), dimension))])


def sentences_embedded(dimension: int) -> pa.Schema:
    """Schema of the columns that embedding sentences adds: for each chunk, a list of borders and one of vectors."""
    return pa.schema([(SPANS, _TYPES[SPANS]), (SENTENCE_VECTORS, pa.list_(pa.list_(pa.float16(), dimension)))])


def answers(passed: pa.Schema) -> pa.Schema:
    """Schema of `answers.parquet` for prompts with the pass-through columns `passed`."""
    first = [pa.field(PROMPT_ID, pa.string()), pa.field(PROMPT, pa.string())]
    return pa.schema([*first, *passed, *GENERATED, *RETRIEVED, *CITED, pa.field(ERROR, pa.string()), *PROVENANCE])


_PASSING = pa.schema(
    [
        (POSITION, pa.int64()),
        (AUGMENTED, pa.string()),
        (GIVEN, pa.int32()),
        (CACHED_TOKENS, pa.int32()),
        (WRONG_CITATIONS, pa.int32()),
        (SENTENCES, pa.list_(pa.list_(pa.struct([*_BORDERS, ("similarity", pa.float32())])))),
        (EMBEDDING, pa.list_(pa.float32())),  # only a worker, which has the model, knows how long they are
    ]
)
# Names that a pass-through column can't have.
RESERVED = frozenset([*answers(pa.schema([])).names, *_PASSING.names])
_KNOWN = [READ, CHUNKS, PARTS, OF_SENTENCES, answers(pa.schema([])), _PASSING]
_TYPES = {field.name: field.type for known in _KNOWN for field in known}


def columns(*names: str) -> pa.Schema:
    """Schema of columns that a stage needs or adds: a name has one type in all stages.

    >>> columns("text", "chunk_index").types
    [DataType(string), DataType(int32)]
    """
    return pa.schema([(name, _TYPES[name]) for name in names])


def digest(*parts: object) -> str:
    """Name `parts` (strings, numbers, lists, dicts) by 24 hex digits of their content.

    >>> digest("a", 1) == digest("a", 1) != digest("a1")
    True
    """
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return digest_bytes(_bytes(content))


def digest_bytes(content: bytes) -> str:
    """Name `content` by 24 hex digits."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def embedded_text(context: str | None, text: str) -> str:
    """The text of a chunk that is embedded, and by which chunks are equal: its context, then its text.

    >>> embedded_text("Trams", "Line 4 runs all night."), embedded_text(None, "Line 4")
    ('Trams\\nLine 4 runs all night.', 'Line 4')
    """
    return f"{context}\n{text}" if context else text


def chunk_ids(document_id: str, indices: Iterable[int], texts: Iterable[str]) -> list[str]:
    """Ids of a document's chunks: equal passages of two documents are two chunks."""
    # `digest` of all three, with the document's share of it computed once.
    document, ids = hashlib.blake2b(_bytes(f"[{_quote(document_id)},"), digest_size=12), []
    for index, text in zip(indices, texts, strict=True):
        chunk = document.copy()
        chunk.update(_bytes(f"{index},{_quote(text)}]"))
        ids.append(chunk.hexdigest())
    return ids


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
