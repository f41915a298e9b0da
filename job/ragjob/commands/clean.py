"""Find what jobs left and nothing needs any more; remove it unless a job has started to use it again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Self

from ragjob import storage
from ragjob.commands.report import Leftover
from ragjob.commands.serving import serving
from ragjob.config import JobSettings
from ragjob.errors import SettingsError
from ragjob.ledger.derived import forget
from ragjob.ledger.index import IndexLedger, current_version, versions
from ragjob.ledger.manifests import UnknownFormatError, is_name
from ragjob.ledger.run import claimed_versions, is_published, remove_staging, staging
from ragjob.ledger.segment import segments
from ragjob.retrieval.chroma.expected import Target
from ragjob.retrieval.chroma.settings import lasts
from ragjob.runtime.progress import silent

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clean:
    """Find or remove what is no longer needed below `index.uri` and `output.uri` and in Chroma."""

    settings: JobSettings
    name: ClassVar[str] = "clean"

    @classmethod
    def of(cls, settings: JobSettings) -> Self:
        """The command with these settings. Raises `SettingsError` when neither place is set."""
        if not (settings.index.uri or settings.output.uri):
            raise SettingsError("index.uri: `clean` needs it or output.uri; set them in job.yaml or with --set")
        return cls(settings)

    def execute(self, *, remove: bool) -> list[Leftover]:
        """What can be removed; with `remove`, what has been removed."""
        storage.configure(self.settings.s3)
        with _chroma(self.settings) as target:
            leftovers = _find(self.settings, target)
            return [leftover for leftover in leftovers if leftover.remove()] if remove else leftovers


def _find(settings: JobSettings, target: Target | None) -> list[Leftover]:
    runs = list(_staging(settings, settings.output.uri)) if settings.output.uri else []
    index = _Index(settings, settings.index.uri) if settings.index.uri else None
    old = list(index.versions()) if index else []
    going = [*(leftover.address for leftover in runs), *(index.going() if index else [])]
    # An unfinished upload in a folder that goes, goes with it.
    uploads = _uploads(settings, tuple(f"{folder}/" for folder in going))
    return [*uploads, *runs, *(index.collections(target) if index and target else []), *old]


@contextmanager
def _chroma(settings: JobSettings) -> Iterator[Target | None]:
    """The server that keeps collections of the index, if there is one."""
    path = settings.chroma.path
    if not settings.index.uri or not lasts(settings.chroma) or (path and not Path(path).is_dir()):
        yield None
        return
    with serving(settings.chroma, silent) as server:
        yield server()


def _staging(settings: JobSettings, output: str) -> Iterator[Leftover]:
    for folder in _folders(staging(output)):
        if reason := _why_staging(settings, output, folder):
            remove = partial(_remove_staging, settings, output, folder)
            yield Leftover("staging", folder.uri, reason, folder.size, remove)


def _why_staging(settings: JobSettings, output: str, folder: "_Folder") -> str | None:
    return "its run is published" if is_published(output, folder.name) else _idle(settings, folder)


def _remove_staging(settings: JobSettings, output: str, folder: "_Folder") -> bool:
    if not _why_staging(settings, output, folder.now()):
        return False
    remove_staging(folder.uri)
    _sweep(folder.uri)
    return True


class _Index:
    """The versions of an index, and the collections that were loaded from them."""

    def __init__(self, settings: JobSettings, uri: str) -> None:
        self._settings = settings
        self._uri = uri
        self._folders = list(_folders(versions(uri), segments(uri)))
        self._committed: dict[str, str] = {}  # when each version was committed, by its name
        self._unknown: set[str] = set()  # versions that a newer release committed
        for folder in self._folders:
            self._look_at(folder.name)
        self._going = self._reasons()

    def _look_at(self, version: str) -> None:
        try:
            manifest = self._version(version).manifest()
        except UnknownFormatError as error:
            log.warning("%s; its version stays", error)
            self._unknown.add(version)
        else:
            if manifest:
                self._committed[version] = manifest.created

    def going(self) -> list[str]:
        """The folders of the versions to remove."""
        return [uri for folder in self._folders if folder.name in self._going for uri in folder.uris]

    def versions(self) -> Iterator[Leftover]:
        for folder in self._folders:
            if reason := self._going.get(folder.name):
                yield Leftover("version", folder.uri, reason, folder.size, partial(self._remove_version, folder))

    def collections(self, target: Target) -> Iterator[Leftover]:
        """The collections of versions to remove, or that no longer exist."""
        from ragjob.retrieval.chroma.collection import stored  # imports chromadb, which takes a second

        source, kept = storage.absolute(self._uri), self._needed() | self._committed.keys() - self._going.keys()
        for collection in stored(target, self._settings.index.collection):
            if collection.index == source and collection.version not in kept:
                reason = f"its version is {self._going.get(collection.version, 'gone')}"
                remove = partial(self._remove_collection, target, collection.name, collection.version)
                yield Leftover("collection", collection.name, reason, collection.count, remove)

    def _reasons(self) -> dict[str, str]:
        """Why versions are to be removed, by their names."""
        most, needed = self._settings.keep.versions, self._needed()
        newest = sorted(self._committed, key=self._committed.__getitem__, reverse=True)
        beyond = [name for name in newest[most:] if name not in needed]
        if beyond and not self._settings.output.uri:
            log.warning("output.uri isn't set: versions beyond keep.versions stay, since runs may need them")
            beyond = []
        reasons = dict.fromkeys(beyond, f"not among the newest {most}")
        for folder in self._folders:
            if folder.name not in needed | self._committed.keys() and (idle := _idle(self._settings, folder)):
                reasons[folder.name] = f"not committed, {idle}"
        return reasons

    def _needed(self) -> set[str | None]:
        """The versions that stay whatever their age, as of now."""
        output = self._settings.output.uri
        named = {current_version(self._uri), self._settings.index.version}
        return named | self._unknown | (claimed_versions(output) if output else set())

    def _version(self, name: str) -> IndexLedger:
        return IndexLedger(self._uri, name)

    def _withdraw(self, version: str) -> bool:
        """Make sure that the version has no manifest, unless it is needed by now. Returns whether it has none."""
        ledger = self._version(version)
        if version not in self._committed:
            return not ledger.is_committed() and version not in self._needed()
        return ledger.withdraw(lambda: version in self._needed())

    def _remove_collection(self, target: Target, name: str, version: str) -> bool:
        from ragjob.retrieval.chroma.collection import drop

        if not self._withdraw(version):
            return False
        drop(target, name)
        return True

    def _remove_version(self, folder: "_Folder") -> bool:
        idle = folder.name in self._committed or _idle(self._settings, folder.now())
        if not idle or not self._withdraw(folder.name):
            return False
        self._version(folder.name).remove()
        forget(self._settings.index.cache, folder.name)
        for uri in folder.uris:
            _sweep(uri)
        return True


@dataclass(frozen=True)
class _Folder:
    """The folder of a run, or those of a version and its segment.

    `size` is the total of its files in bytes, and `newest` is when the newest of them was written.
    """

    uris: tuple[str, ...]
    size: int
    newest: datetime

    @property
    def uri(self) -> str:
        return self.uris[0]

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    def now(self) -> "_Folder":
        """The folder as it is now."""
        entries = [entry for uri in self.uris for entry in storage.list_files(uri)]
        return _folder(self.uris, entries) if entries else self


def _folders(*places: str) -> Iterator[_Folder]:
    """The folders directly in `places`, grouped by name, without empty ones."""
    inside = [(place, entry) for place in places for entry in storage.list_files(place) if "/" in entry.path]
    named = sorted(((entry.path.partition("/")[0], place, entry) for place, entry in inside), key=lambda row: row[0])
    for name, group in groupby(named, lambda row: row[0]):
        if not is_name(name):  # no job of ours wrote it
            continue
        rows = list(group)
        uris = dict.fromkeys(storage.join(place, name) for _, place, _ in rows)
        yield _folder(tuple(uris), [entry for _, _, entry in rows])


def _folder(uris: tuple[str, ...], entries: list[storage.Entry]) -> _Folder:
    return _Folder(uris, sum(entry.size for entry in entries), max(entry.modified for entry in entries))


def _idle(settings: JobSettings, folder: _Folder) -> str | None:
    days = settings.keep.staging_days
    return f"nothing written for {days:g} days" if _is_old(settings, folder.newest) else None


def _uploads(settings: JobSettings, going: tuple[str, ...]) -> Iterator[Leftover]:
    """Unfinished writes, except those inside folders that are to be removed."""
    places = {storage.absolute(uri) for uri in (settings.index.uri, settings.output.uri) if uri}
    begun = {uri: started for place in sorted(places) for uri, started in _begun(place).items()}
    for uri, started in begun.items():
        if _is_old(settings, started) and not uri.startswith(going):
            remove = partial(_remove_upload, settings, uri)
            yield Leftover("upload", uri, f"begun on {started:%Y-%m-%d}, never finished", None, remove)


def _begun(folder: str) -> dict[str, datetime]:
    """When the last unfinished write to each uri began."""
    writes = sorted(storage.list_unfinished(folder), key=lambda write: write.started)
    return {write.uri: write.started for write in writes}


def _remove_upload(settings: JobSettings, uri: str) -> bool:
    started = _begun(uri.rpartition("/")[0]).get(uri)
    if started and not _is_old(settings, started):
        return False
    storage.sweep_unfinished(uri)
    return True


def _sweep(folder: str) -> None:
    for uri in _begun(folder):
        storage.sweep_unfinished(uri)


def _is_old(settings: JobSettings, time: datetime) -> bool:
    return _now() - time > timedelta(days=settings.keep.staging_days)


def _now() -> datetime:
    return datetime.now(UTC)
