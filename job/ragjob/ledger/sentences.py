"""The sentences of a segment's chunks: staged beside each part, joined into two files, and mapped by retrieval.

`sentences-<digest>.npy` holds the vectors, chunk by chunk in the order of the settled parts: float16
[sentences, dimension]. `spans-<digest>.npy` holds the place of each sentence's chunk in that order, and where it begins
and ends in the chunk's text: int32 [sentences, 3]. `sentences-<key>.json` names both once they are whole; the key
stands for the chunks and their order. They aren't part of a version: what is damaged or missing is embedded again.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.derived import DerivedFiles, are_got, are_whole, locked, named, npy_file, put, scratch
from ragjob.ledger.files import to_json, to_parquet
from ragjob.ledger.manifests import ELSEWHERE, SENTENCES_FORMAT, ManifestKind
from ragjob.ledger.passages import Numbers, Vectors, similarities
from ragjob.ledger.segment import SENTENCES, SegmentLedger, SegmentManifest
from ragjob.settings import FileName

_SPANS = "spans-"
_STAGED_PREFIX = f"{SENTENCES}{schema.SENTENCE_FORMAT}"
_STAGED = re.compile(rf"{_STAGED_PREFIX}-(.+)-(\d+)-(\d+)\.parquet")


@dataclass(frozen=True)
class SentenceManifest:
    """Names of a segment's two files of sentences, and how many sentences they hold."""

    vectors: FileName
    spans: FileName
    sentences: int
    format: int = SENTENCES_FORMAT


_MANIFESTS = ManifestKind(SentenceManifest, SENTENCES_FORMAT, "index.uri", ELSEWHERE)


class Sentences:
    """The sentences of rows: those of each row's `first` chunk. A chunk with only one sentence has none here.

    `vectors` and `spans` are as in their files.
    """

    def __init__(self, vectors: npt.NDArray[np.float16], spans: npt.NDArray[np.int32], first: Numbers) -> None:
        self._vectors = np.asarray(vectors)  # fancy indexing of a memmap takes longer
        self._spans = spans
        self._starts, self._ends = (np.searchsorted(spans[:, 0], first, side) for side in ("left", "right"))

    def best(self, rows: Numbers, question: Vectors) -> Vectors:
        """Similarity of each row's best sentence to a question, float32 [len(rows)]; -1 where it has none."""
        best = np.full(len(rows), -1, np.float32)
        starts, counts = self._starts[rows], self._ends[rows] - self._starts[rows]
        ends = np.cumsum(counts)
        if len(rows) and ends[-1]:
            places = np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)
            near = similarities(self._vectors[places], question)
            some = counts > 0
            best[some] = np.maximum.reduceat(near, (ends - counts)[some])
        return best

    def of(self, row: int, question: Vectors) -> list[schema.Sentence]:
        """The sentences of a row, with their similarities to a question."""
        here = slice(self._starts[row], self._ends[row])
        near = similarities(self._vectors[here], question)
        spans = self._spans[here, 1:].tolist()
        return [schema.Sentence(start, end, score) for (start, end), score in zip(spans, near.tolist(), strict=True)]


@dataclass(frozen=True)
class SentenceFiles:
    """The files of sentences of a segment, and where a node keeps those that come from S3."""

    index_uri: str
    segment: str
    manifest: SentenceManifest
    cache: str

    def open(self, first: Numbers) -> Sentences:
        """The sentences of rows whose first chunks are at these places, mapped into memory.

        Raises `DataError` when a file is missing or damaged.
        """
        there = self._whole()
        if there is None:
            raise DataError(f"index.uri: the sentences of segment {self.segment} are damaged; run the job again")
        vectors, spans = (np.load(there / name, mmap_mode="r") for name in self._names)
        return Sentences(vectors, np.array(spans), first)

    def are_whole(self) -> bool:
        """Return whether the files are what their names say; those on S3 are fetched to this node."""
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


class _Staged(NamedTuple):
    """The file with the sentences of one part, how many they are, and for how many chunks embedding them failed."""

    file: str
    sentences: int
    failed: int


class StagedSentences:
    """The sentences of a segment's parts, each part's in a file beside it, until they are joined."""

    def __init__(self, index_uri: str, segment: str) -> None:
        self._folder = SegmentLedger(index_uri, segment).folder

    def write(self, part: str, chunks: pa.Table) -> None:
        """Stage the sentences of a part, whose `chunks` are in their order."""
        spans, vectors = (chunks[name].combine_chunks() for name in (schema.SPANS, schema.SENTENCE_VECTORS))
        counts = spans.value_lengths().fill_null(0).to_numpy()
        table = pa.table(
            {
                schema.PLACE: np.repeat(np.arange(len(spans), dtype=np.int32), counts),
                **{name: spans.flatten().field(name) for name in ("start", "end")},
                schema.EMBEDDING: vectors.flatten(),
            }
        )
        name = f"{_STAGED_PREFIX}-{_stem(part)}-{table.num_rows}-{spans.null_count}.parquet"
        storage.put_if_absent(storage.join(self._folder, name), to_parquet(table))

    def by_part(self) -> dict[str, _Staged]:
        """What is staged, by the stems of parts' names; of two attempts' files for a part one counts."""
        matches = filter(None, map(_STAGED.fullmatch, storage.list_names(self._folder)))
        fewest_failed_last = sorted(matches, key=lambda match: -int(match[3]))
        return {match[1]: _Staged(match[0], int(match[2]), int(match[3])) for match in fewest_failed_last}


class SentenceLedger:
    """What is stored of the sentences of a segment's chunks; `derived` stands for these and their order."""

    def __init__(self, index_uri: str, segment: str, derived: DerivedFiles) -> None:
        self._segment = SegmentLedger(index_uri, segment)
        self._name = f"{SENTENCES}{schema.digest(derived.passages, schema.SENTENCE_FORMAT)}.json"
        self._manifest = storage.join(self._segment.folder, self._name)
        self.staged = StagedSentences(index_uri, segment)

    def manifest(self) -> SentenceManifest | None:
        """Which files hold the sentences, or None until they do. Raises as `ManifestKind.read` does."""
        return _MANIFESTS.read(self._manifest)

    def missing(self) -> list[str]:
        """Names of the settled parts whose sentences aren't staged. Raises as `join` does."""
        staged = self.staged.by_part()
        return [part.name for part in self._settled().parts if _stem(part.name) not in staged]

    def failed(self) -> int:
        """For how many chunks of the settled parts embedding their sentences failed, as far as it was tried."""
        staged = self.staged.by_part()
        return sum(staged[stem].failed for part in self._settled().parts if (stem := _stem(part.name)) in staged)

    def give_up_failed(self) -> None:
        """Remove the staged sentences of parts with a failure, so that they are embedded again."""
        self._delete(staged.file for staged in self.staged.by_part().values() if staged.failed)

    def join(self) -> SentenceManifest:
        """Join what is staged into the two files, and name them unless other ones are named by then.

        The sentences of one part at a time are in memory. Raises `DependencyError` when files are removed meanwhile.
        """
        with scratch() as folder:
            count = self._fill(folder, self._settled())
            made = SentenceManifest(named(folder, "sentences", "npy"), named(folder, "spans", "npy"), count)
            for file in (made.vectors, made.spans):
                put(self._segment, folder / file)
        storage.put_if_absent(self._manifest, to_json(asdict(made)))
        joined = self.manifest()
        if joined is None:
            raise _removed("files of the sentences")
        kept = {self._name, joined.vectors, joined.spans}
        names = storage.list_names(self._segment.folder)
        self._delete(name for name in names if name.startswith((SENTENCES, _SPANS)) and name not in kept)
        return joined

    def discard(self, damaged: SentenceManifest) -> None:
        """Remove damaged files and what names them, unless other ones are named by now. Raises `DependencyError`."""
        if self.manifest() == damaged:
            self._delete((damaged.vectors, damaged.spans))
            storage.delete([self._manifest])

    def _settled(self) -> SegmentManifest:
        if settled := self._segment.manifest():
            return settled
        raise _removed("parts of the segment")

    def _fill(self, folder: Path, settled: SegmentManifest) -> int:
        """Write the files `sentences` and `spans`; gives the number of sentences."""
        by_part = self.staged.by_part()
        stems = [_stem(part.name) for part in settled.parts]
        if any(stem not in by_part for stem in stems):
            raise _removed("sentences of a part")
        count, start = sum(by_part[stem].sentences for stem in stems), 0
        with (
            npy_file(folder / "sentences", np.float16, (count, settled.dimension)) as vectors,
            npy_file(folder / "spans", np.int32, (count, 3)) as spans,
        ):
            for part, stem in zip(settled.parts, stems, strict=True):
                rows = self._segment.read(by_part[stem].file)
                flat = rows[schema.EMBEDDING].combine_chunks().flatten()
                vectors.write(np.asarray(flat, np.float16).tobytes())
                places, *borders = (rows[name].to_numpy() for name in (schema.PLACE, "start", "end"))
                spans.write(np.column_stack([places + start, *borders]).astype(np.int32).tobytes())
                start += part.rows
        return count

    def _delete(self, names: Iterable[str]) -> None:
        with suppress(DependencyError):  # another attempt, or clean, may be at it
            storage.delete([storage.join(self._segment.folder, name) for name in names])


def _stem(part: str) -> str:
    return Path(part).stem


def _removed(what: str) -> DependencyError:
    return DependencyError(f"index.uri: the {what} were removed by another process; run the job again")
