"""The sentences of a segment's rows: their vectors are staged in parts, joined into two files, and mapped by retrieval.

`sentences-<digest>.npy` holds the vectors: float16 [sentences, dimension]. `spans-<digest>.npy` holds the row of each,
and where it begins and ends in the row's text: int32 [sentences, 3]. `sentences-<key>.json` names both once they are
whole; the key stands for the rows. They aren't part of a version: what is damaged or missing is embedded again.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.derived import DerivedFiles, are_got, are_whole, locked, named, npy_file, put, scratch
from ragjob.ledger.files import read_parquet, to_json, to_parquet
from ragjob.ledger.manifests import ELSEWHERE, SENTENCES_FORMAT, ManifestKind
from ragjob.ledger.passages import Numbers, Vectors, similarities
from ragjob.ledger.segment import SENTENCES, SegmentLedger
from ragjob.settings import FileName

PART_ROWS = 512  # of each part but the last, whatever the settings: a rerun finds the same parts


@dataclass(frozen=True)
class SentenceManifest:
    """Names of a segment's two files of sentences, and how many sentences they hold."""

    vectors: FileName
    spans: FileName
    sentences: int
    format: int = SENTENCES_FORMAT


_MANIFESTS = ManifestKind(SentenceManifest, SENTENCES_FORMAT, "index.uri", ELSEWHERE)


class Sentences:
    """The sentences of rows, a row's one after the other; a row of one sentence has none here."""

    def __init__(self, vectors: npt.NDArray[np.float16], spans: npt.NDArray[np.int32], rows: int) -> None:
        self._vectors = np.asarray(vectors)  # fancy indexing of a memmap takes longer
        self._spans = spans
        self._starts = np.searchsorted(spans[:, 0], np.arange(rows + 1))

    def best(self, rows: Numbers, question: Vectors) -> Vectors:
        """Similarity of each row's best sentence to a question, float32 [len(rows)]; -1 where it has none."""
        best = np.full(len(rows), -1, np.float32)
        starts, counts = self._starts[rows], self._starts[rows + 1] - self._starts[rows]
        ends = np.cumsum(counts)
        if len(rows) and ends[-1]:
            places = np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)
            near = similarities(self._vectors[places], question)
            some = counts > 0
            best[some] = np.maximum.reduceat(near, (ends - counts)[some])
        return best

    def of(self, row: int, question: Vectors) -> list[schema.Sentence]:
        """The sentences of a row, with their similarities to a question."""
        here = slice(self._starts[row], self._starts[row + 1])
        near = similarities(self._vectors[here], question)
        spans = self._spans[here, 1:].tolist()
        return [schema.Sentence(start, end, score) for (start, end), score in zip(spans, near.tolist(), strict=True)]


@dataclass(frozen=True)
class SentenceFiles:
    """The files of sentences of a segment with `rows` rows, and where a node keeps those that come from S3."""

    index_uri: str
    segment: str
    manifest: SentenceManifest
    rows: int
    cache: str

    def open(self) -> Sentences:
        """The sentences, mapped into memory. Raises `DataError` when a file is missing or damaged."""
        there = self._whole()
        if there is None:
            raise DataError(f"index.uri: the sentences of segment {self.segment} are damaged; run the job again")
        vectors, spans = (np.load(there / name, mmap_mode="r") for name in self._names)
        return Sentences(vectors, np.array(spans), self.rows)

    def are_whole(self) -> bool:
        """Tell whether the files are as their names say; those on S3 are fetched for this node."""
        return self._whole() is not None

    @property
    def _names(self) -> tuple[str, str]:
        return self.manifest.vectors, self.manifest.spans

    def _whole(self) -> Path | None:
        """The folder on this node that has the files, if they are whole."""
        folder = SegmentLedger(self.index_uri, self.segment).folder
        if local := storage.local_path(folder):
            return local if are_whole(local, self._names) else None
        there = Path(self.cache).expanduser() / self.segment
        with locked(there):
            return there if are_got(folder, self._names, there) else None


class SentenceLedger:
    """What is stored of the sentences of a segment's rows, which `derived` names by their content."""

    def __init__(self, index_uri: str, segment: str, derived: DerivedFiles, rows: int) -> None:
        self._segment = SegmentLedger(index_uri, segment)
        self._rows = rows
        self._prefix = f"{SENTENCES}{schema.digest(derived.rows, schema.SENTENCE_FORMAT)}"
        self._manifest = storage.join(self._segment.folder, f"{self._prefix}.json")

    def manifest(self) -> SentenceManifest | None:
        """Which files hold the sentences, or None until they do. Raises as `ManifestKind.read` does."""
        return _MANIFESTS.read(self._manifest)

    def missing(self) -> list[tuple[int, int]]:
        """The rows, first and end, of each part that isn't staged yet."""
        done = {first for first, _, _ in self._parts()}
        starts = (first for first in range(0, self._rows, PART_ROWS) if first not in done)
        return [(first, min(first + PART_ROWS, self._rows)) for first in starts]

    def write(self, rows: pa.Table) -> None:
        """Stage the sentences of a part's rows, in their order."""
        numbers, spans = rows[schema.ROW].to_numpy(), rows[schema.SPANS].combine_chunks()
        vectors = rows[schema.SENTENCE_VECTORS].combine_chunks().flatten()
        counts = spans.value_lengths().fill_null(0).to_numpy()
        half = np.asarray(vectors.flatten(), np.float16)
        part = pa.table(
            {
                schema.ROW: np.repeat(numbers, counts).astype(np.int32),
                **{name: spans.flatten().field(name) for name in ("start", "end")},
                schema.EMBEDDING: pa.FixedSizeListArray.from_arrays(pa.array(half), vectors.type.list_size),
            }
        )
        name = f"{self._prefix}-{numbers[0]:010}-{part.num_rows}.parquet"
        storage.put_if_absent(storage.join(self._segment.folder, name), to_parquet(part))

    def join(self, dimension: int) -> SentenceManifest:
        """Join the parts into the two files, and name them unless other ones are named by then.

        A part at a time is in memory. Raises `DependencyError` when parts are removed meanwhile.
        """
        with scratch() as folder:
            count = self._fill(folder, dimension)
            made = SentenceManifest(named(folder, "sentences", "npy"), named(folder, "spans", "npy"), count)
            for file in (made.vectors, made.spans):
                put(self._segment, folder / file)
        storage.put_if_absent(self._manifest, to_json(asdict(made)))
        settled = self.manifest()
        if settled is None:
            raise DependencyError("index.uri: the sentences' files were removed by another process; run the job again")
        kept = {settled.vectors, settled.spans}
        self._delete(name for name in (made.vectors, made.spans) if name not in kept)
        self._delete(name for _, _, name in self._parts())
        return settled

    def discard(self) -> None:
        """Remove the files, which are damaged, and what names them."""
        if settled := self.manifest():
            storage.delete([self._manifest])
            self._delete(iter((settled.vectors, settled.spans)))

    def _parts(self) -> list[tuple[int, int, str]]:
        """First row, number of sentences and name of each part, in their order."""
        pattern = re.compile(rf"{self._prefix}-(\d+)-(\d+)\.parquet")
        found = map(pattern.fullmatch, storage.list_names(self._segment.folder))
        return sorted((int(part[1]), int(part[2]), part[0]) for part in found if part)

    def _fill(self, folder: Path, dimension: int) -> int:
        """Write the files `sentences` and `spans` from the parts; gives the number of sentences."""
        # Of two attempts' parts of the same rows one counts: the other may lack the sentences of a row that failed.
        parts = list({part[0]: part for part in self._parts()}.values())
        if [first for first, _, _ in parts] != list(range(0, self._rows, PART_ROWS)):
            raise DependencyError(
                "index.uri: parts of the sentences were removed by another process; run the job again"
            )
        count = sum(sentences for _, sentences, _ in parts)
        with (
            npy_file(folder / "sentences", np.float16, (count, dimension)) as vectors,
            npy_file(folder / "spans", np.int32, (count, 3)) as spans,
        ):
            for _, _, name in parts:
                part = read_parquet(storage.join(self._segment.folder, name))
                flat = part[schema.EMBEDDING].combine_chunks().flatten()
                vectors.write(np.asarray(flat, np.float16).tobytes())
                columns = [part[field].to_numpy() for field in (schema.ROW, "start", "end")]
                spans.write(np.column_stack(columns).astype(np.int32).tobytes())
        return count

    def _delete(self, names: Iterator[str]) -> None:
        with suppress(DependencyError):  # another attempt, or clean, may be at it
            storage.delete([storage.join(self._segment.folder, name) for name in names])
