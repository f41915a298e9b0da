"""Index versions: the manifest that makes segments a version, and which version is the current one."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from ragjob import storage
from ragjob.errors import DependencyError
from ragjob.ledger import schema
from ragjob.ledger.derived import DerivedFiles, derive
from ragjob.ledger.files import read_if_there, read_parquet, to_json, to_parquet
from ragjob.ledger.manifests import CURRENT_FORMAT, ELSEWHERE, INDEX_MANIFEST_FORMAT, ManifestKind
from ragjob.ledger.segment import Part, SegmentLedger
from ragjob.settings import Name


@dataclass(frozen=True)
class ListedSegment:
    """A segment of a committed version: its name, and what was derived from its parts."""

    segment: Name
    files: DerivedFiles


@dataclass(frozen=True)
class IndexManifest:
    """A committed index version: what it was made of, what it holds in which segments, and when (ISO 8601, UTC).

    `chunks` are its passages, `rows` its distinct embedded texts. Manifests of format 1 have no segments: their
    versions can no longer be answered from.
    `short_passages` were left out as too short; most words of `unknown_documents` are unknown to the model.
    `metadata` has the names of the documents' metadata, in order.
    """

    version: Name
    fingerprint: str
    settings: dict[str, object]
    embed_model: str
    dtype: str
    dimension: int
    metric: str
    documents: int
    failed: int
    chunks: int
    created: str
    rows: int = 0
    short_passages: int = 0
    unknown_documents: int = 0
    metadata: list[str] = field(default_factory=list)
    segments: list[ListedSegment] = field(default_factory=list)
    format: int = INDEX_MANIFEST_FORMAT


@dataclass(frozen=True)
class About:
    """What is known about a version before it holds anything: settings that decide it, their digest, model, inputs.

    `listing` has the columns of `schema.LISTING`, one row for each input file.
    """

    fingerprint: str
    settings: dict[str, object]
    embed_model: str
    listing: pa.Table


@dataclass(frozen=True)
class Current:
    """What `current.json` says: the version to answer from."""

    version: Name
    format: int = CURRENT_FORMAT


_MANIFESTS = ManifestKind(
    IndexManifest,
    INDEX_MANIFEST_FORMAT,
    "index.uri",
    ELSEWHERE,
    "isn't a manifest of ragjob: {}; remove it and run `ragjob index`",
)
_CURRENTS = ManifestKind(Current, CURRENT_FORMAT, "index.uri", ELSEWHERE, "names no version: run `ragjob index` again")


class IndexLedger:
    """One version below `index.uri`: its manifest, its documents, and the one segment that holds them."""

    def __init__(self, uri: str, version: str) -> None:
        self.uri = storage.absolute(uri)
        self.version = version
        self.segment = SegmentLedger(uri, version)
        self._folder = storage.join(versions(uri), version)
        self._documents = storage.join(self._folder, "documents.parquet")
        self._manifest = storage.join(self._folder, "manifest.json")

    def manifest(self) -> IndexManifest | None:
        """The manifest, or None while the version isn't committed. Raises as `ManifestKind.read` does."""
        return _MANIFESTS.read(self._manifest)

    def is_committed(self) -> bool:
        """Return whether there is a manifest, readable or not."""
        return storage.exists(self._manifest)

    def withdraw(self, needed: Callable[[], bool]) -> bool:
        """Remove the manifest unless the version is `needed`; put it back if the version is needed after all.

        A job that needs a version says so before it looks for the manifest, so one of the two sees the other. Returns
        whether it is gone.
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
        """Remove the files of a version without a manifest, and its segment."""
        storage.delete_folder(self._folder)
        self.segment.remove()

    def commit(self, parts: list[Part], about: About) -> IndexManifest:
        """Settle the segment, derive its files, and put the manifest that makes it a version, unless it is there.

        Raises `DataError` when no chunk could be embedded, `DependencyError` when a file is removed meanwhile.
        """
        if self.manifest() is None:
            self._put_manifest(parts, about)
        committed = self.manifest()
        if committed is None:
            raise DependencyError(
                f"index.uri: version {self.version} was removed by another process; run the job again"
            )
        self.sweep()
        return committed

    def sweep(self) -> None:
        """Remove what attempts left beside a committed version."""
        if settled := self.segment.manifest():
            self.segment.sweep(settled)

    def errors(self) -> pa.Table:
        """The documents that have an error, of a committed version."""
        documents = read_parquet(self._documents)
        return documents.filter(pc.is_valid(documents[schema.ERROR]))

    def unknown_documents(self) -> pa.Table:
        """The documents most of whose words are unknown to the embedding model, of a committed version."""
        return _mostly_unknown(read_parquet(self._documents))

    def _put_manifest(self, parts: list[Part], about: About) -> None:
        settled = self.segment.settle(parts)
        files, rows = derive(self.segment, settled)
        documents = self.segment.documents(settled)
        documents = documents.append_column(schema.SEGMENT, pa.repeat(settled.segment, documents.num_rows))
        storage.put_if_absent(self._documents, to_parquet(documents.select(schema.VERSION_DOCUMENTS.names)))
        storage.put_if_absent(storage.join(self._folder, "listing.parquet"), to_parquet(about.listing))
        manifest = IndexManifest(
            version=self.version,
            fingerprint=about.fingerprint,
            settings=about.settings,
            embed_model=about.embed_model,
            metric=schema.METRIC,
            dimension=settled.dimension,
            dtype=settled.dtype,
            documents=settled.documents,
            failed=settled.failed,
            chunks=settled.chunks,
            rows=rows,
            short_passages=pc.sum(documents[schema.SHORT_COUNT]).as_py() or 0,
            unknown_documents=_mostly_unknown(documents).num_rows,
            metadata=_metadata_names(documents),
            segments=[ListedSegment(settled.segment, files)],
            created=datetime.now(UTC).isoformat(),
        )
        storage.put_if_absent(self._manifest, to_json(asdict(manifest)))


def versions(uri: str) -> str:
    """The folder of `index.uri` that has a folder for each version."""
    return storage.join(storage.absolute(uri), "versions")


def current_version(uri: str) -> str | None:
    """The version that `current.json` names, or None."""
    current = _CURRENTS.read(storage.join(uri, "current.json"))
    return current.version if current else None


def set_current(uri: str, version: str) -> None:
    """Make `current.json` name `version`."""
    storage.put(storage.join(uri, "current.json"), to_json(asdict(Current(version))))


def _mostly_unknown(documents: pa.Table) -> pa.Table:
    return documents.filter(pc.greater(documents[schema.UNKNOWN_SHARE], schema.UNKNOWN_LIMIT))


def _metadata_names(documents: pa.Table) -> list[str]:
    metadata = set(documents[schema.METADATA].drop_null().to_pylist())
    return sorted({name for text in metadata for name in json.loads(text)})
