"""What retrieval maps into memory: files derived from a segment's parts, named by their content, built anew if damaged.

A segment has three. `passages-<digest>.arrow` holds its chunks without their embeddings, in the order of the settled
parts, a record batch for each part. `vectors-<digest>.npy` holds their embeddings in that order: float16
[chunks, dimension]. `rows-<digest>.parquet` holds one row for each distinct embedded text, ordered by `row_id`:
that text's digest, and the positions of the chunks that have it, in the order of their ids.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.passages import Passages, open_passages
from ragjob.ledger.segment import SegmentLedger, SegmentManifest
from ragjob.settings import FileName

BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class DerivedFiles:
    """Names of a segment's derived files."""

    passages: FileName
    vectors: FileName
    rows: FileName


@dataclass(frozen=True)
class SegmentFiles:
    """A segment below `index_uri`, and where a node keeps its derived files that come from S3."""

    index_uri: str
    segment: str
    files: DerivedFiles
    cache: str

    def open(self) -> Passages:
        """The segment's passages, mapped into memory. Raises as `paths` does."""
        return open_passages(*self.paths())

    def paths(self) -> list[Path]:
        """Where the files are on this node: fetched once, and checked by their digests.

        Raises `DataError` when one is damaged and can't be built anew, `DependencyError` when storage or disk fails.
        """
        names, folder = astuple(self.files), SegmentLedger(self.index_uri, self.segment).folder
        there, local = self._cached, storage.local_path(folder)
        if local and are_whole(local, names):
            return [local / name for name in names]
        with locked(there):
            if local and are_whole(local, names):  # another process has built them meanwhile
                return [local / name for name in names]
            if not (are_whole(there, names) if local else are_got(folder, names, there)):
                self._rebuild(there)
        return [there / name for name in names]

    def added(self, stem: str, build: Callable[[Path], None]) -> Path:
        """Where a file named `<stem>-<digest>.arrow`, which isn't part of the version, is on this node.

        It is fetched, or written by `build`, which writes the same content each time, and put beside the others if
        this job may write there. Raises `DependencyError` when storage or disk fails.
        """
        folder = SegmentLedger(self.index_uri, self.segment).folder
        local = storage.local_path(folder)
        places = [local, self._cached] if local else [self._cached]
        if there := _find(places[:1], stem):
            return there
        with locked(self._cached):
            if there := _find(places, stem):  # another process was faster
                return there
            names = [name for name in storage.list_names(folder) if name.startswith(f"{stem}-")]
            fetched = (self._cached / name for name in names if not local and fetch(folder, name, self._cached))
            return next(fetched, None) or self._add(stem, build, names)

    def _add(self, stem: str, build: Callable[[Path], None], damaged: list[str]) -> Path:
        """Build the file in the node's cache, and move it to storage, if that is local, or copy it there."""
        build(self._cached / stem)
        file = self._cached / named(self._cached, stem, "arrow")
        ledger = SegmentLedger(self.index_uri, self.segment)
        try:
            storage.delete(storage.join(ledger.folder, name) for name in damaged)
            put(ledger, file)
        except DependencyError:  # this job may not be allowed to write there
            return file
        local = storage.local_path(ledger.folder)
        if local is None:
            return file
        file.unlink()
        return local / file.name

    @property
    def _cached(self) -> Path:
        return Path(self.cache).expanduser() / self.segment

    def _rebuild(self, there: Path) -> None:
        """Build the files anew from the parts, into the folder `there` and, if this job may write there, on storage.

        The caller holds the folder's lock.
        """
        ledger = SegmentLedger(self.index_uri, self.segment)
        settled = ledger.manifest()
        if settled is None:
            raise DataError(
                f"index.uri: segment {self.segment} has no segment.json: remove the versions that use it, and run "
                "`ragjob index`"
            )
        there.mkdir(parents=True, exist_ok=True)
        built, _ = _build(ledger.batches(settled), settled, there)
        if built != self.files:
            raise DataError(
                f"index.uri: the files of segment {self.segment} are damaged, and its parts don't reproduce them: "
                f"remove {ledger.folder} and the versions that use it, and run `ragjob index`"
            )
        with suppress(DependencyError):  # this job may not be allowed to write there
            for name in astuple(built):
                storage.delete([storage.join(ledger.folder, name)])
                put(ledger, there / name)


def derive(ledger: SegmentLedger, settled: SegmentManifest) -> tuple[DerivedFiles, int]:
    """Build the derived files of a settled segment, and put them unless they are there.

    Returns their names, and the number of distinct embedded texts.
    """
    with scratch() as folder:
        files, rows = _build(ledger.batches(settled), settled, folder)
        for name in astuple(files):
            put(ledger, folder / name)
    return files, rows


def _build(parts: Iterable[pa.Table], settled: SegmentManifest, folder: Path) -> tuple[DerivedFiles, int]:
    """Write the derived files into `folder`; a part at a time is in memory, and two ids for each chunk."""
    row_ids, chunk_ids = (np.empty(settled.chunks, f"S{schema.ID_CHARS}") for _ in range(2))
    start, writer = 0, None
    shape = (settled.chunks, settled.dimension)
    with (folder / "passages").open("wb") as file, npy_file(folder / "vectors", np.float16, shape) as vectors:
        for part in parts:
            chunks = part.drop_columns([schema.EMBEDDING]).combine_chunks()
            end = start + chunks.num_rows
            if end > settled.chunks:
                break
            vectors.write(_vectors(part, settled).astype(np.float16).tobytes())
            row_ids[start:end] = _row_ids(chunks)
            chunk_ids[start:end] = chunks[schema.CHUNK_ID].to_pylist()
            writer = writer or pa.ipc.new_file(file, chunks.schema)
            writer.write_table(chunks)
            start = end
        if writer:
            writer.close()
    if start != settled.chunks:
        raise DataError(
            f"index.uri: segment {settled.segment} doesn't hold the {settled.chunks:,} chunks that its segment.json "
            "counts: remove that segment and the versions that use it, and run `ragjob index`"
        )
    rows = _rows(row_ids, chunk_ids)
    pq.write_table(rows, folder / "rows", compression="zstd")
    files = DerivedFiles(
        passages=named(folder, "passages", "arrow"),
        vectors=named(folder, "vectors", "npy"),
        rows=named(folder, "rows", "parquet"),
    )
    return files, rows.num_rows


def _row_ids(chunks: pa.Table) -> list[str]:
    """The digest of what was embedded of each chunk."""
    embedded = map(schema.embedded_text, chunks[schema.CONTEXT].to_pylist(), chunks[schema.TEXT].to_pylist())
    return [schema.digest_bytes(text.encode()) for text in embedded]


def _vectors(part: pa.Table, settled: SegmentManifest) -> np.ndarray:
    vectors = part[schema.EMBEDDING].combine_chunks()
    if vectors.type.list_size != settled.dimension:
        raise DataError(
            f"index.uri: segment {settled.segment} holds vectors of {vectors.type.list_size} dimensions instead of "
            f"{settled.dimension}: remove that segment and the versions that use it, and run `ragjob index`"
        )
    return np.asarray(vectors.flatten()).reshape(-1, settled.dimension)


def _rows(row_ids: np.ndarray, chunk_ids: np.ndarray) -> pa.Table:
    """One row for each distinct row id, in their order, with the positions of its chunks in the order of their ids."""
    order = np.lexsort((chunk_ids, row_ids))
    ordered = row_ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    members = pa.ListArray.from_arrays(
        pa.array(np.append(starts, len(order)), pa.int32()), pa.array(order.astype(np.int32))
    )
    return pa.table({schema.ROW_ID: ordered[starts].astype(str), schema.MEMBERS: members})


@contextmanager
def npy_file(file: Path, kind: type, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A file of numpy's format, to which the bytes of the array are written.

    A mapped array would end the process where the disk is full.
    """
    with file.open("wb") as sink:
        about = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(sink, about)  # type: ignore[no-untyped-call]
        yield sink


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for files on their way to storage. Raises `DependencyError` where the disk fails."""
    try:
        with TemporaryDirectory(prefix="ragjob-") as folder:
            yield Path(folder)
    except OSError as error:
        raise DependencyError(
            f"TMPDIR: can't write an index's files to {tempfile.gettempdir()}: {error}; free some space, or name "
            "another folder"
        ) from error


@contextmanager
def locked(cached: Path) -> Iterator[None]:
    """Keep this node's other processes out of a segment's folder in the cache, which is made if there is none."""
    from filelock import FileLock  # which a finished job does without

    try:
        cached.mkdir(parents=True, exist_ok=True)
        # One object for a path: who builds a file beside the others may have to fetch these.
        with FileLock(cached.with_name(f"{cached.name}.lock"), is_singleton=True):
            yield
    except OSError as error:
        raise DependencyError(
            f"index.cache: can't write to {cached}: {error}; name a writable folder with enough space"
        ) from error


def forget(cache: str, segment: str) -> None:
    """Remove what this node keeps of a segment that is gone."""
    folder = Path(cache).expanduser() / segment
    if folder.is_dir():
        with suppress(DependencyError), locked(folder):  # another user's stays
            shutil.rmtree(folder, ignore_errors=True)


def named(folder: Path, kind: str, suffix: str) -> str:
    """Rename the file `kind` in `folder` so that its name has the digest of its content; returns that name."""
    name = f"{kind}-{_digest(folder / kind)}.{suffix}"
    _sync(folder / kind)
    (folder / kind).rename(folder / name)
    return name


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=schema.ID_CHARS // 2)).hexdigest()


def _find(places: list[Path], stem: str) -> Path | None:
    """A whole file of that stem in one of the folders."""
    files = (file for place in places for file in sorted(place.glob(f"{stem}-*.arrow")))
    return next((file for file in files if is_whole(file, file.name)), None)


def are_got(folder: str, names: Iterable[str], there: Path) -> bool:
    """Whether a node has all these files, once missing ones are fetched. The caller holds the folder's lock."""
    return all((there / name).exists() or fetch(folder, name, there) for name in names)


def are_whole(folder: Path, names: Iterable[str]) -> bool:
    """Whether all these files are there with the content that their names say."""
    return all(is_whole(folder / name, name) for name in names)


def _sync(file: Path) -> None:
    """See a file onto the disk before it gets its final name, by which it counts as whole."""
    with file.open("rb") as content:
        os.fsync(content.fileno())


def is_whole(file: Path, name: str) -> bool:
    """Whether the file is there with the content that `name`, its final name, says."""
    try:
        return _digest(file) == Path(name).stem.rpartition("-")[2]
    except FileNotFoundError:
        return False


def put(ledger: SegmentLedger, file: Path) -> None:
    """Put a file into the segment's folder unless it is there."""
    storage.publish(storage.join(ledger.folder, file.name), _copier(file))


def _copier(file: Path) -> Callable[[BinaryIO], object]:
    def copy(sink: BinaryIO) -> None:
        with file.open("rb") as content:
            shutil.copyfileobj(content, sink, BLOCK_BYTES)

    return copy


def fetch(folder: str, name: str, there: Path) -> bool:
    """Fetch a file into a node's folder; false when it is missing or damaged."""
    staged = there / f".{name}"
    try:
        with storage.open_input(storage.join(folder, name)) as content, staged.open("wb") as file:
            shutil.copyfileobj(content, file, BLOCK_BYTES)
    except storage.MissingError:
        return False
    if not is_whole(staged, name):
        staged.unlink()
        return False
    _sync(staged)
    staged.rename(there / name)
    return True
