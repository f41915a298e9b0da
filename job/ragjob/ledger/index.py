"""Index versions: parts of whole documents, and the manifest that makes them one."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragjob import schema, storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger.files import TAKEN_UP, read_if_there, read_parquet, to_json, to_parquet
from ragjob.ledger.manifests import CURRENT_FORMAT, INDEX_MANIFEST_FORMAT, DamagedError, ManifestKind

# Staged parts: whole documents; documents with a failed chunk; what a commit keeps of either.
_CLEAN, _FAILED, _SETTLED = "part-", "_failed-", "part-settled-"
_DOCUMENTS = "_documents-"
_LISTED = [schema.CHUNK_ID, schema.DOCUMENT_ID, schema.URI]


@dataclass(frozen=True)
class ListedPart:
    """A part of a committed version: its name, and how many chunks it holds."""

    name: str
    rows: int


@dataclass(frozen=True)
class IndexManifest:
    """A committed index version: what it was made of, what it holds in which parts, and when (ISO 8601, UTC)."""

    version: str
    fingerprint: str
    settings: dict[str, object]
    embed_model: str
    dtype: str
    dimension: int
    metric: str
    documents: int
    failed: int
    chunks: int
    documents_file: str
    parts: list[ListedPart]
    created: str
    format: int = INDEX_MANIFEST_FORMAT


@dataclass(frozen=True)
class Current:
    """What `current.json` says: the version to answer from."""

    version: str
    format: int = CURRENT_FORMAT


_ELSEWHERE = "run `ragjob index` with another index.uri"
_MANIFESTS = ManifestKind(IndexManifest, INDEX_MANIFEST_FORMAT, "index.uri", _ELSEWHERE)
_CURRENTS = ManifestKind(Current, CURRENT_FORMAT, "index.uri", _ELSEWHERE)


class IndexLedger:
    """One version below `index.uri`: parts of whole documents, the manifest, `documents.parquet` as it says."""

    def __init__(self, uri: str, version: str) -> None:
        self.uri = storage.absolute(uri)
        self.version = version
        self._folder = storage.join(versions(uri), version)
        self._documents = storage.join(self._folder, "documents.parquet")
        self._manifest = storage.join(self._folder, "manifest.json")

    def manifest(self) -> IndexManifest | None:
        """The manifest, or None while the version isn't committed.

        Raises `UnknownFormatError` for one that a newer release wrote, and `DataError` for one that is damaged.
        """
        with storage.naming("index.uri"):
            content = read_if_there(self._manifest)
        try:
            return None if content is None else _MANIFESTS.parse(content, self._manifest)
        except DamagedError as error:
            raise DataError(f"index.uri: {self._manifest} isn't a manifest of this program: {error}") from error

    def is_committed(self) -> bool:
        """Tell whether there is a manifest, readable or not."""
        return storage.exists(self._manifest)

    def take_up(self) -> None:
        """Show that an attempt is at work on the version."""
        storage.put(storage.join(self._folder, TAKEN_UP), b"")

    def withdraw(self, needed: Callable[[], bool]) -> bool:
        """Take the manifest away unless the version is `needed`, and put it back if it is by then.

        Who needs a version says so before looking for its manifest: so either sees the other. Tells whether it is gone.
        """
        if needed():
            return False
        content = read_if_there(self._manifest)
        if content is None:
            return True
        storage.delete([self._manifest])
        if needed():
            storage.put_if_absent(self._manifest, content)
            return False
        return True

    def remove(self) -> None:
        """Remove the files of a version without a manifest, what was derived from one first."""
        storage.delete([self._documents])
        storage.delete_folder(self._folder)

    def done(self) -> frozenset[str]:
        """Ids of the documents that are in a part without an error."""
        ids: set[str] = set()
        for name in self._names(_CLEAN):
            ids.update(self._read(name, [schema.DOCUMENT_ID])[schema.DOCUMENT_ID].to_pylist())
        return frozenset(ids)

    def settle_dtype(self, measure: Callable[[], str]) -> str:
        """The dtype that this version is computed in: the first to ask measures, the others and reruns follow."""
        uri = storage.join(self._folder, "_dtype")
        settled = read_if_there(uri)
        if settled is None:
            storage.put_if_absent(uri, measure().encode())
            settled = storage.read_bytes(uri)
        return settled.decode()

    def write(self, chunks: pa.Table) -> None:
        """Stage a block of whole documents; those with a failed chunk go to a part of their own."""
        failed = set(chunks.filter(pc.is_valid(chunks[schema.ERROR]))[schema.DOCUMENT_ID].to_pylist())
        spoilt = pc.is_in(chunks[schema.DOCUMENT_ID], pa.array(failed, pa.string()))
        clean = chunks.filter(pc.invert(spoilt)).drop_columns([schema.ERROR])
        for prefix, rows in ((_CLEAN, clean), (_FAILED, chunks.filter(spoilt))):
            if rows.num_rows:
                self._put(prefix, rows.replace_schema_metadata())

    def survey(self) -> list["Part"]:
        """What the parts hold, each document counted once: in a clean part first, and the first by name."""
        seen: set[str] = set()
        parts = []
        for name in [*self._names(_CLEAN), *self._names(_FAILED)]:
            failed = name.startswith(_FAILED)
            rows = self._read(name, [*_LISTED, schema.TEXT, schema.ERROR] if failed else _LISTED)
            ids = set(rows[schema.DOCUMENT_ID].to_pylist())
            if fresh := ids - seen:
                rows = rows.filter(pc.is_in(rows[schema.DOCUMENT_ID], pa.array(fresh, pa.string())))
                empty = pc.sum(pc.equal(rows[schema.TEXT], "")).as_py() or 0 if failed else 0
                parts.append(Part(name, None if fresh == ids and not failed else fresh, _by_document(rows), empty))
            seen |= ids
        return parts

    def commit(
        self, parts: list["Part"], *, fingerprint: str, settings: dict[str, object], embed_model: str
    ) -> IndexManifest:
        """Put the manifest that makes the version one, unless it is there by then; then `settle`.

        Raises `DataError` when no chunk could be embedded, `DependencyError` when the manifest is removed meanwhile.
        """
        if self.manifest() is None:
            self._put_manifest(parts, fingerprint, settings, embed_model)
        committed = self._committed()
        self.settle(committed)
        return committed

    def settle(self, manifest: IndexManifest) -> None:
        """Bring a committed version's folder to its end: `documents.parquet` put, what isn't listed swept."""
        if not storage.exists(self._documents):
            try:
                documents = storage.read_bytes(storage.join(self._folder, manifest.documents_file))
            except storage.MissingError:
                if not storage.exists(self._documents):  # else another attempt has put them meanwhile
                    raise
            else:
                storage.put(self._documents, documents)
        listed = {part.name for part in manifest.parts}
        left = [name for name in storage.list_names(self._folder) if name.startswith(("_", _CLEAN))]
        storage.delete(storage.join(self._folder, name) for name in left if name not in listed)

    def _committed(self) -> IndexManifest:
        """The manifest of a version that has just been committed."""
        manifest = self.manifest()
        if manifest is None:
            raise DependencyError(f"index.uri: version {self.version} was removed meanwhile; run it again")
        return manifest

    def _put_manifest(
        self, parts: list["Part"], fingerprint: str, settings: dict[str, object], embed_model: str
    ) -> None:
        settled = [
            ListedPart(name, pc.sum(part.documents["chunk_count"]).as_py())
            for part in parts
            if (name := self._settle(part))
        ]
        if not settled:
            raise DataError("corpus.uri: not one passage of it could be embedded; the rows' errors say why")
        vectors = self._schema(settled[0].name).field(schema.EMBEDDING).type
        documents = pa.concat_tables([part.documents for part in parts])
        manifest = IndexManifest(
            version=self.version,
            fingerprint=fingerprint,
            settings=settings,
            embed_model=embed_model,
            metric=schema.METRIC,
            dimension=vectors.list_size,
            dtype=self.settle_dtype(str),
            documents=documents.num_rows,
            failed=documents.num_rows - documents[schema.ERROR].null_count,
            chunks=sum(part.rows for part in settled),
            # Under a name of its own: an attempt that loses the race must not replace the winner's.
            documents_file=self._put(_DOCUMENTS, documents),
            parts=settled,
            created=datetime.now(UTC).isoformat(),
        )
        storage.put_if_absent(self._manifest, to_json(asdict(manifest)))

    def batches(self, manifest: IndexManifest) -> Iterator[pa.Table]:
        """The committed rows, a part at a time."""
        for part in manifest.parts:
            yield self._read(part.name)

    def errors(self) -> pa.Table:
        """The documents that have an error, of a committed version."""
        documents = read_parquet(self._documents)
        return documents.filter(pc.is_valid(documents[schema.ERROR]))

    def _names(self, prefix: str) -> list[str]:
        names = [name for name in storage.list_names(self._folder) if name.startswith(prefix)]
        return [name for name in names if not name.startswith(_SETTLED)] if prefix == _CLEAN else names

    def _read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        return read_parquet(storage.join(self._folder, name), columns)

    def _schema(self, name: str) -> pa.Schema:
        with storage.open_input(storage.join(self._folder, name)) as file:
            return pq.read_schema(file)

    def _put(self, prefix: str, rows: pa.Table) -> str:
        content = to_parquet(rows)
        name = f"{prefix}{schema.digest_bytes(content)}.parquet"
        storage.put_if_absent(storage.join(self._folder, name), content)
        return name

    def _settle(self, part: "Part") -> str | None:
        """Name of the part that holds just the chunks that count; None when there are none."""
        if part.fresh is None:
            return part.name
        rows = self._read(part.name)
        rows = rows.filter(pc.is_in(rows[schema.DOCUMENT_ID], pa.array(part.fresh, pa.string())))
        if schema.ERROR in rows.column_names:
            rows = rows.filter(pc.is_null(rows[schema.ERROR])).drop_columns([schema.ERROR])
        return self._put(_SETTLED, rows) if rows.num_rows else None


@dataclass(frozen=True)
class Part:
    """A staged part, the ids that count in it (None: all) and their rows of `documents.parquet`.

    Of these documents, `empty` hold no text: the one row of each has the text "".
    """

    name: str
    fresh: set[str] | None
    documents: pa.Table
    empty: int


def versions(uri: str) -> str:
    """The folder of `index.uri` that has a folder for each version."""
    return storage.join(storage.absolute(uri), "versions")


def current_version(uri: str) -> str | None:
    """The version that `current.json` names, or None."""
    name = storage.join(uri, "current.json")
    with storage.naming("index.uri"):
        content = read_if_there(name)
    try:
        return None if content is None else _CURRENTS.parse(content, name).version
    except DamagedError as error:
        raise DataError(f"index.uri: {name} names no version: run `ragjob index` again") from error


def set_current(uri: str, version: str) -> None:
    """Let `current.json` name `version`."""
    storage.put(storage.join(uri, "current.json"), to_json(asdict(Current(version))))


def _by_document(part: pa.Table) -> pa.Table:
    """Rows of `documents.parquet` for the documents of one part."""
    if schema.ERROR not in part.column_names:
        part = part.append_column(schema.ERROR, pa.nulls(part.num_rows, pa.string()))
    keys = [schema.DOCUMENT_ID, schema.URI]
    grouped = part.group_by(keys, use_threads=False).aggregate([(schema.CHUNK_ID, "list"), (schema.ERROR, "list")])
    rows = []
    for document in grouped.to_pylist():
        errors = [error for error in document["error_list"] if error]
        count = len(document["error_list"])
        rows.append(
            {name: document[name] for name in keys}
            | {"digest": schema.digest(document["chunk_id_list"]), "chunk_count": count - len(errors)}
            | {"failed_count": len(errors), schema.ERROR: errors[0] if errors else None}
        )
    return pa.Table.from_pylist(rows, schema.DOCUMENTS)
