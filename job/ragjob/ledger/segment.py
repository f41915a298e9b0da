"""Segments: parts of whole documents, and the file that settles which parts count."""

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.files import TAKEN_UP, read_if_there, read_parquet, to_json, to_parquet
from ragjob.ledger.manifests import ELSEWHERE, SEGMENT_FORMAT, ManifestKind
from ragjob.settings import FileName, Name

# Staged parts: whole documents; documents with a failed chunk; what a settlement keeps of either.
PART_PREFIX, _FAILED, _SETTLED = "part-", "_failed-", "part-settled-"
_DOCUMENTS = "_documents-"
SENTENCES = "sentences-"  # those of chunks: see `ledger.sentences`
_OF_DOCUMENT = [schema.DOCUMENT_ID, schema.URI, schema.TITLE, schema.METADATA]  # alike in all of its chunks
_LISTED = [*_OF_DOCUMENT, schema.CHUNK_ID, schema.CONTEXT, schema.SHORT_COUNT, schema.UNKNOWN_SHARE]


@dataclass(frozen=True)
class ListedPart:
    """A part of a settled segment: its name, which holds a digest of its content, and its number of chunks."""

    name: FileName
    rows: int


@dataclass(frozen=True)
class SegmentManifest:
    """A settled segment: what it holds in which parts, and the dtype and dimension of its vectors."""

    segment: Name
    dtype: str
    dimension: int
    documents: int
    failed: int
    chunks: int
    documents_file: FileName
    parts: list[ListedPart]
    format: int = SEGMENT_FORMAT


@dataclass(frozen=True)
class Part:
    """A staged part, the ids that count in it (None: all) and their rows of `documents.parquet`.

    Of these documents, `empty` hold no text: the one row of each has the text "".
    """

    name: str
    fresh: set[str] | None
    documents: pa.Table
    empty: int


_SEGMENTS = ManifestKind(
    SegmentManifest,
    SEGMENT_FORMAT,
    "index.uri",
    ELSEWHERE,
    "isn't a segment of ragjob: {}; remove its folder and the versions that use it, and run `ragjob index`",
)


class SegmentLedger:
    """One segment below `index.uri`: parts of whole documents, and `segment.json`, which lists those that count."""

    def __init__(self, uri: str, segment: str) -> None:
        self.folder = storage.join(segments(uri), segment)
        self._segment = segment
        self._manifest = storage.join(self.folder, "segment.json")

    @property
    def failed_parts(self) -> str:
        """Where the documents with a failed chunk are staged, as a glob."""
        return storage.join(self.folder, f"{_FAILED}*.parquet")

    def manifest(self) -> SegmentManifest | None:
        """What `segment.json` says, or None while the segment isn't settled. Raises as `ManifestKind.read` does."""
        return _SEGMENTS.read(self._manifest)

    def take_up(self) -> None:
        """Show that an attempt is at work on the segment."""
        storage.put(storage.join(self.folder, TAKEN_UP), b"")

    def done(self) -> frozenset[str]:
        """Ids of the documents that are in a part without an error."""
        ids: set[str] = set()
        for name in self._names(PART_PREFIX):
            ids.update(self.read(name, [schema.DOCUMENT_ID])[schema.DOCUMENT_ID].to_pylist())
        return frozenset(ids)

    def settle_dtype(self, measure: Callable[[], str]) -> str:
        """The dtype that this segment is computed in: the first to ask measures it, others and reruns follow."""
        uri = storage.join(self.folder, "_dtype")
        settled = read_if_there(uri)
        if settled is None:
            storage.put_if_absent(uri, measure().encode())
            settled = storage.read_bytes(uri)
        return settled.decode()

    def write(self, chunks: pa.Table, stage_beside: Callable[[str, pa.Table], None] | None = None) -> None:
        """Stage a block of whole documents; those with a failed chunk go to a part of their own.

        `stage_beside` gets the name and the rows, with all columns, of the part without failed chunks before it is put.
        """
        failed = set(chunks.filter(pc.is_valid(chunks[schema.ERROR]))[schema.DOCUMENT_ID].to_pylist())
        spoilt = pc.is_in(chunks[schema.DOCUMENT_ID], pa.array(failed, pa.string()))
        clean = chunks.filter(pc.invert(spoilt)).drop_columns([schema.ERROR])
        for prefix, rows in ((PART_PREFIX, clean), (_FAILED, chunks.filter(spoilt))):
            if rows.num_rows:
                columns = [name for name in rows.column_names if name not in schema.OF_SENTENCES.names]
                name, content = _named(prefix, rows.select(columns).replace_schema_metadata())
                if stage_beside and prefix == PART_PREFIX:
                    stage_beside(name, rows)
                self._put(name, content)

    def survey(self) -> list[Part]:
        """What the parts hold, each document counted once: in a clean part first, and the first by name."""
        seen: set[str] = set()
        parts = []
        for name in [*self._names(PART_PREFIX), *self._names(_FAILED)]:
            failed = name.startswith(_FAILED)
            rows = self.read(name, [*_LISTED, schema.TEXT, schema.ERROR] if failed else _LISTED)
            ids = set(rows[schema.DOCUMENT_ID].to_pylist())
            if fresh := ids - seen:
                rows = rows.filter(pc.is_in(rows[schema.DOCUMENT_ID], pa.array(fresh, pa.string())))
                empty = pc.sum(pc.equal(rows[schema.TEXT], "")).as_py() or 0 if failed else 0
                parts.append(Part(name, None if fresh == ids and not failed else fresh, _by_document(rows), empty))
            seen |= ids
        return parts

    def settle(self, parts: list[Part]) -> SegmentManifest:
        """Put `segment.json` unless it is there by then; what it says holds for all attempts.

        Raises `DataError` when no chunk could be embedded, `DependencyError` when the file is removed meanwhile.
        """
        if self.manifest() is None:
            self._put_manifest(parts)
        settled = self.manifest()
        if settled is None:
            raise DependencyError(
                f"index.uri: segment {self._segment} was removed by another process; run the job again"
            )
        return settled

    def batches(self, manifest: SegmentManifest) -> Iterator[pa.Table]:
        """The settled chunks, a part at a time."""
        for part in manifest.parts:
            yield self.read(part.name)

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of one of the segment's Parquet files, with all or some columns."""
        return read_parquet(storage.join(self.folder, name), columns)

    def documents(self, manifest: SegmentManifest) -> pa.Table:
        """The segment's documents, as `schema.DOCUMENTS` has them, except the segment's name."""
        return self.read(manifest.documents_file)

    def sweep(self, manifest: SegmentManifest) -> None:
        """Remove what attempts left beside the settled parts."""
        listed = {part.name for part in manifest.parts} | {manifest.documents_file}
        names = storage.list_names(self.folder)
        left = [name for name in names if name.startswith(("_", PART_PREFIX))]
        if fnmatch.filter(names, f"{SENTENCES}*.json"):  # which says that they are joined
            left += fnmatch.filter(names, f"{SENTENCES}*-*.parquet")
        storage.delete(storage.join(self.folder, name) for name in left if name not in listed)

    def remove(self) -> None:
        """Remove the segment's files, `segment.json` first, so that nobody finds it without its parts."""
        storage.delete([self._manifest])
        storage.delete_folder(self.folder)

    def _put_manifest(self, parts: list[Part]) -> None:
        settled = [
            ListedPart(name, pc.sum(part.documents["chunk_count"]).as_py())
            for part in parts
            if (name := self._settle(part))
        ]
        if not settled:
            raise DataError(
                "corpus.uri: none of its passages could be embedded; the errors in "
                f"{self.failed_parts} say what to correct"
            )
        vectors = self._schema(settled[0].name).field(schema.EMBEDDING).type
        documents = pa.concat_tables([part.documents for part in parts])
        manifest = SegmentManifest(
            segment=self._segment,
            dtype=self.settle_dtype(str),
            dimension=vectors.list_size,
            documents=documents.num_rows,
            failed=documents.num_rows - documents[schema.ERROR].null_count,
            chunks=sum(part.rows for part in settled),
            # Under a name of its own: an attempt that loses the race must not replace the winner's.
            documents_file=self._put(*_named(_DOCUMENTS, documents)),
            parts=settled,
        )
        storage.put_if_absent(self._manifest, to_json(asdict(manifest)))

    def _names(self, prefix: str) -> list[str]:
        names = [name for name in storage.list_names(self.folder) if name.startswith(prefix)]
        return [name for name in names if not name.startswith(_SETTLED)] if prefix == PART_PREFIX else names

    def _schema(self, name: str) -> pa.Schema:
        with storage.open_input(storage.join(self.folder, name)) as file:
            return pq.read_schema(file)

    def _put(self, name: str, content: bytes) -> str:
        storage.put_if_absent(storage.join(self.folder, name), content)
        return name

    def _settle(self, part: Part) -> str | None:
        """Name of the part that holds just the chunks that count; None when there are none."""
        if part.fresh is None:
            return part.name
        rows = self.read(part.name)
        rows = rows.filter(pc.is_in(rows[schema.DOCUMENT_ID], pa.array(part.fresh, pa.string())))
        if schema.ERROR in rows.column_names:
            rows = rows.filter(pc.is_null(rows[schema.ERROR])).drop_columns([schema.ERROR])
        return self._put(*_named(_SETTLED, rows)) if rows.num_rows else None


def segments(uri: str) -> str:
    """The folder of `index.uri` that has a folder for each segment."""
    return storage.join(storage.absolute(uri), "segments")


def _named(prefix: str, rows: pa.Table) -> tuple[str, bytes]:
    """The name and the content of a file of rows."""
    content = to_parquet(rows)
    return f"{prefix}{schema.digest_bytes(content)}.parquet", content


def _by_document(part: pa.Table) -> pa.Table:
    """Rows of `documents.parquet` for the documents of one part."""
    if schema.ERROR not in part.column_names:
        part = part.append_column(schema.ERROR, pa.nulls(part.num_rows, pa.string()))
    facts = [schema.SHORT_COUNT, schema.UNKNOWN_SHARE]
    lists = [schema.CHUNK_ID, schema.CONTEXT, schema.ERROR]
    gathered = [*((name, "list") for name in lists), *((name, "sum") for name in facts)]
    grouped = part.group_by(_OF_DOCUMENT, use_threads=False).aggregate(gathered)
    rows = []
    for document in grouped.to_pylist():
        errors = [error for error in document["error_list"] if error]
        count = len(document["error_list"])
        rows.append(
            {name: document[name] for name in _OF_DOCUMENT}
            | {name: document[f"{name}_sum"] for name in facts}
            | {"digest": _digest(document), "chunk_count": count - len(errors)}
            | {"failed_count": len(errors), schema.ERROR: errors[0] if errors else None}
        )
    return pa.Table.from_pylist(rows, schema.DOCUMENTS)


def _digest(document: dict[str, list[str]]) -> str:
    """Digest of what a document gave: its chunks' ids and contexts, and its metadata."""
    contexts = document[f"{schema.CONTEXT}_list"]
    about = [document[schema.METADATA], *(contexts if any(contexts) else [])]
    return schema.digest(document[f"{schema.CHUNK_ID}_list"], about)
