"""What is committed and what is left to do: index versions, runs, their parts and manifests."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from job import schema, storage
from job.errors import DataError, DependencyError

WINDOW = 4096  # prompts that publishing holds at once
_IDENTITY = b"ragjob.identity"
# An index's staged parts: whole documents; documents with a failed chunk; what a commit keeps of either.
_CLEAN, _FAILED, _SETTLED = "part-", "_failed-", "part-settled-"
_LISTED = [schema.CHUNK_ID, schema.DOCUMENT_ID, schema.URI]


@dataclass(frozen=True)
class IndexManifest:
    """A committed index version: what it was made of, what it holds and in which parts."""

    version: str
    fingerprint: str
    settings: dict[str, Any]
    embed_model: str
    dtype: str
    dimension: int
    metric: str
    documents: int
    failed: int
    chunks: int
    parts: list[dict[str, Any]]


class IndexLedger:
    """One version below `index.uri`: parts of whole documents, then `documents.parquet`, the manifest last."""

    def __init__(self, uri: str, version: str) -> None:
        self._uri = uri
        self._folder = storage.join(uri, "versions", version)
        self._version = version

    def manifest(self) -> IndexManifest | None:
        """The manifest, or None while the version isn't committed."""
        uri = storage.join(self._folder, "manifest.json")
        if not storage.exists(uri):
            return None
        try:
            return IndexManifest(**json.loads(storage.read_bytes(uri)))
        except (ValueError, TypeError) as error:
            raise DataError(f"index.uri: {uri} isn't a manifest of this program: {error}") from error

    def done(self) -> frozenset[str]:
        """Ids of the documents that are in a part without an error."""
        ids: set[str] = set()
        for name in self._names(_CLEAN):
            ids.update(self._read(name, [schema.DOCUMENT_ID])[schema.DOCUMENT_ID].to_pylist())
        return frozenset(ids)

    def settle_dtype(self, measure: Callable[[], str]) -> str:
        """The dtype that this version is computed in: the first to ask measures, the others and reruns follow."""
        uri = storage.join(self._folder, "_dtype")
        if not storage.exists(uri):
            storage.put_if_absent(uri, measure().encode())
        return storage.read_bytes(uri).decode()

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
            rows = self._read(name, [*_LISTED, schema.ERROR] if failed else _LISTED)
            ids = set(rows[schema.DOCUMENT_ID].to_pylist())
            if fresh := ids - seen:
                rows = rows.filter(pc.is_in(rows[schema.DOCUMENT_ID], pa.array(fresh, pa.string())))
                parts.append(Part(name, None if fresh == ids and not failed else fresh, _by_document(rows)))
            seen |= ids
        return parts

    def commit(self, parts: list["Part"], **about: Any) -> IndexManifest:
        """Put `documents.parquet`, then the manifest that makes the version one; sweep what it doesn't list.

        Losing to another attempt is success: what it committed stays as it is.
        """
        if self.manifest() is None:
            self._put_manifest(parts, about)
        committed = self.manifest()
        assert committed is not None
        self._sweep(committed)
        return committed

    def _put_manifest(self, parts: list["Part"], about: dict[str, Any]) -> None:
        names = [name for part in parts if (name := self._settle(part))]
        if not names:
            raise DataError("corpus.uri: not one passage of it could be embedded; the rows' errors say why")
        counts = [self._rows(name) for name in names]
        vectors = self._schema(names[0]).field(schema.EMBEDDING).type
        documents = pa.concat_tables([part.documents for part in parts])
        manifest = IndexManifest(
            version=self._version,
            metric=schema.METRIC,
            dimension=vectors.list_size,
            dtype=self.settle_dtype(str),
            documents=documents.num_rows,
            failed=documents.num_rows - documents[schema.ERROR].null_count,
            chunks=sum(counts),
            parts=[{"name": name, "rows": rows} for name, rows in zip(names, counts, strict=True)],
            **about,
        )
        storage.put(storage.join(self._folder, "documents.parquet"), _parquet(documents))
        storage.put_if_absent(storage.join(self._folder, "manifest.json"), _json(asdict(manifest)))

    def batches(self, manifest: IndexManifest) -> Iterator[pa.Table]:
        """The committed rows, a part at a time."""
        for part in manifest.parts:
            yield self._read(part["name"])

    def errors(self) -> pa.Table:
        """The documents that have an error, of a committed version."""
        with storage.open_input(storage.join(self._folder, "documents.parquet")) as file:
            documents = pq.read_table(file)
        return documents.filter(pc.is_valid(documents[schema.ERROR]))

    def _names(self, prefix: str) -> list[str]:
        names = [name for name in storage.list_names(self._folder) if name.startswith(prefix)]
        return [name for name in names if not name.startswith(_SETTLED)] if prefix == _CLEAN else names

    def _read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        return _read_parquet(storage.join(self._folder, name), columns)

    def _rows(self, name: str) -> int:
        with storage.open_input(storage.join(self._folder, name)) as file:
            return int(pq.read_metadata(file).num_rows)

    def _schema(self, name: str) -> pa.Schema:
        with storage.open_input(storage.join(self._folder, name)) as file:
            return pq.read_schema(file)

    def _put(self, prefix: str, rows: pa.Table) -> str:
        content = _parquet(rows)
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

    def _sweep(self, manifest: IndexManifest) -> None:
        listed = {part["name"] for part in manifest.parts}
        names = self._names(_CLEAN) + self._names("_") + self._names(_SETTLED)
        left = [name for name in names if name not in listed]
        storage.delete(storage.join(self._folder, name) for name in left)


@dataclass(frozen=True)
class Part:
    """A staged part, the ids that count in it (None: all) and their rows of `documents.parquet`."""

    name: str
    fresh: set[str] | None
    documents: pa.Table


def current_version(uri: str) -> str | None:
    """The version that `current.json` names, or None."""
    name = storage.join(uri, "current.json")
    if not storage.exists(name):
        return None
    try:
        return str(json.loads(storage.read_bytes(name))["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"index.uri: {name} names no version: run `ragjob index` again") from error


def set_current(uri: str, version: str) -> None:
    """Let `current.json` name `version`."""
    storage.put(storage.join(uri, "current.json"), _json({"version": version}))


@dataclass(frozen=True)
class RunManifest:
    """A published run, as counted in its `answers.parquet`."""

    run_id: str
    identity: str
    rows: int
    errors: int
    prompt_tokens: int
    completion_tokens: int


class RunLedger:
    """One run below `output.uri`: parts in `_staging`, then one `answers.parquet` that appears whole."""

    def __init__(self, uri: str, run_id: str, identity: str) -> None:
        self._run = storage.join(uri, run_id)
        self._staging = storage.join(uri, "_staging", run_id)
        self._run_id = run_id
        self._identity = identity
        self.answers = storage.join(self._run, "answers.parquet")

    def published(self) -> RunManifest | None:
        """The manifest, written anew if it is missing, or None while the run isn't published.

        Raises `DataError` when a run of that name was published with other settings.
        """
        if not storage.exists(self.answers):
            return None
        uri = storage.join(self._run, "_manifest.json")
        manifest = None
        if storage.exists(uri):
            manifest = RunManifest(**json.loads(storage.read_bytes(uri)))
        else:
            manifest = self._count()
            storage.put(uri, _json(asdict(manifest)))
        self._check(manifest.identity)
        return manifest

    def claim(self) -> None:
        """Put the run's identity before its first part. Raises `DataError` when another one stands there."""
        uri = storage.join(self._staging, "identity.json")
        if not storage.put_if_absent(uri, _json({"identity": self._identity})):
            self._check(json.loads(storage.read_bytes(uri))["identity"])

    def answered(self, total: int) -> npt.NDArray[np.bool_]:
        """Which of the `total` positions have a staged answer; rows with an error don't count."""
        done = np.zeros(total, np.bool_)
        for name in self._parts():
            part = _read_parquet(storage.join(self._staging, name), [schema.POSITION, schema.ERROR])
            done[part.filter(pc.is_null(part[schema.ERROR]))[schema.POSITION].to_numpy()] = True
        return done

    def write(self, rows: pa.Table) -> None:
        """Stage a block: answers and rows with an error in parts of their own."""
        good = pc.is_null(rows[schema.ERROR])
        for part in (rows.filter(good), rows.filter(pc.invert(good))):
            if part.num_rows:
                content = _parquet(part)
                ends = pc.min_max(part[schema.POSITION]).as_py()
                positions = f"{ends['min']:09d}-{ends['max']:09d}"
                name = f"part-{positions}-{schema.digest_bytes(content)}.parquet"
                storage.put_if_absent(storage.join(self._staging, name), content)

    def publish(self, total: int, columns: pa.Schema) -> RunManifest:
        """Write `answers.parquet` from the parts, unless it is there by then; losing that race is success."""
        try:
            storage.publish(self.answers, lambda sink: self._merge(sink, total, columns))
        except (DataError, DependencyError):
            if not storage.exists(self.answers):
                raise
        manifest = self.published()
        assert manifest is not None
        return manifest

    def errors(self, most: int) -> list[tuple[str, str]]:
        """Ids and errors of the first `most` failed prompts of the published run."""
        return _failed(_read_parquet(self.answers, [schema.PROMPT_ID, schema.ERROR]), most)

    def staged_errors(self, most: int) -> list[tuple[str, str]]:
        """The same of the staged parts."""
        names = [storage.join(self._staging, name) for name in self._parts()]
        columns = [schema.PROMPT_ID, schema.ERROR]
        return [error for name in names for error in _failed(_read_parquet(name, columns), most)][:most]

    def sweep(self) -> None:
        """Remove the run's staging, and files that killed attempts left beside the answers."""
        storage.delete_folder(self._staging)
        left = [name for name in storage.list_names(self._run) if name.startswith("_answers.parquet.")]
        storage.delete(storage.join(self._run, name) for name in left)

    def _parts(self) -> list[str]:
        return [name for name in storage.list_names(self._staging) if name.startswith("part-")]

    def _check(self, identity: str) -> None:
        if identity != self._identity:
            raise DataError(
                f"run_id: {self._run_id} was started with other settings or inputs; "
                "take another run_id, or leave it out to get one that follows from them"
            )

    def _merge(self, sink: BinaryIO, total: int, columns: pa.Schema) -> None:
        ranges = {name: _positions(name) for name in self._parts()}
        target = columns.with_metadata({_IDENTITY: self._identity.encode()})
        with pq.ParquetWriter(sink, target, compression="zstd") as writer:
            for first in range(0, total, WINDOW):
                last = min(first + WINDOW, total) - 1
                names = [name for name, (low, high) in ranges.items() if low <= last and high >= first]
                writer.write_table(self._window(names, first, last, columns))

    def _window(self, names: list[str], first: int, last: int, columns: pa.Schema) -> pa.Table:
        """Rows of positions first to last: an answer before an error, and the first by part name."""
        tables = [_read_parquet(storage.join(self._staging, name)) for name in names]
        if not tables:
            raise DependencyError(f"{self._staging}: no part holds prompts {first} to {last}; run it again")
        rows = pa.concat_tables(tables, promote_options="permissive")
        rows = rows.append_column("_failed", pc.is_valid(rows[schema.ERROR]))
        rows = rows.append_column("_order", pa.array(range(rows.num_rows)))
        rows = rows.filter(pc.is_in(rows[schema.POSITION], pa.array(range(first, last + 1), pa.int64())))
        order = [(schema.POSITION, "ascending"), ("_failed", "ascending"), ("_order", "ascending")]
        rows = rows.sort_by(order)
        positions = rows[schema.POSITION].to_numpy()
        rows = rows.take(np.flatnonzero(np.diff(positions, prepend=-1)))
        if rows.num_rows != last - first + 1:
            lost = last - first + 1 - rows.num_rows
            raise DependencyError(f"{self._staging}: {lost} prompts have no row; run it again")
        return rows.select(columns.names).cast(columns)

    def _count(self) -> RunManifest:
        rows = _read_parquet(self.answers, [schema.ERROR, "prompt_tokens", "completion_tokens"])
        identity = (rows.schema.metadata or {}).get(_IDENTITY, b"").decode()
        self._check(identity)  # before another program's file is taken for a run
        return RunManifest(
            run_id=self._run_id,
            identity=identity,
            rows=rows.num_rows,
            errors=rows.num_rows - rows[schema.ERROR].null_count,
            prompt_tokens=pc.sum(rows["prompt_tokens"]).as_py() or 0,
            completion_tokens=pc.sum(rows["completion_tokens"]).as_py() or 0,
        )


def _positions(name: str) -> tuple[int, int]:
    """First and last position in part-<first>-<last>-<digest>.parquet."""
    _, first, last, _ = name.split("-")
    return int(first), int(last)


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


def _failed(rows: pa.Table, most: int) -> list[tuple[str, str]]:
    failed = rows.filter(pc.is_valid(rows[schema.ERROR])).slice(0, most)
    return list(zip(failed[schema.PROMPT_ID].to_pylist(), failed[schema.ERROR].to_pylist(), strict=True))


def _read_parquet(uri: str, columns: list[str] | None = None) -> pa.Table:
    try:
        with storage.open_input(uri) as file:
            return pq.ParquetFile(file).read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{uri}: not a whole Parquet file; remove it and run again") from error


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
