"""Models under an `s3://` prefix, kept in the folder `models.cache` of each node."""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.models.files import Source, check_model, check_paths, content_revision, inside, used

S3 = "s3://"
BLOCK_BYTES = 16 * 2**20  # asked for at once
DOWNLOADS_AT_ONCE = 4


@dataclass(frozen=True)
class BucketFiles:
    """The files listed in `entries` below `uri`; `folder` is where a node keeps them."""

    key: str
    uri: str
    folder: str
    entries: tuple[storage.Entry, ...]

    @property
    def sizes(self) -> Mapping[str, int]:
        return {entry.path: entry.size for entry in self.entries}

    def read(self, path: str) -> bytes:
        kept = self._folder / path
        if kept.is_file():
            return kept.read_bytes()
        entry = next(entry for entry in self.entries if entry.path == path)
        with storage.naming(self.key):
            content = storage.read_bytes(entry.uri)
            if len(content) != entry.size:
                raise _changed(entry.uri)
        return content

    def fetch(self) -> str:
        from filelock import FileLock  # which a finished job does without

        kept = self._folder
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with storage.naming(self.key), FileLock(_beside(kept, ".lock")):
                if not kept.is_dir():
                    self._download()
        except OSError as error:
            what = f"models.cache: {kept.parent}: {error.strerror or error}"
            raise DependencyError(f"{what}; name a writable folder with enough space") from error
        return str(kept)

    @property
    def _folder(self) -> Path:
        return Path(self.folder).expanduser()

    def _download(self) -> None:
        """Put the files beside where they belong, and move them there when all are whole."""
        staged = _beside(self._folder, ".partial")
        shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
        staged.mkdir()  # fails where a link stands
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            list(pool.map(lambda entry: _copy_checked(entry, inside(staged, entry.path)), self.entries))
        # What was copied is what the revision stands for only if it still stood there afterwards.
        if _list(self.uri) != self.entries:
            raise _changed(self.uri)
        staged.rename(self._folder)


def find_in_bucket(name: str, key: str, cache: str) -> Source:
    """The model below the prefix `name`; its revision is a digest of the listing. Nothing is downloaded."""
    uri = name.rstrip("/")
    with storage.naming(key):
        entries = _list(uri)
    check_model({entry.path: entry.size for entry in entries}, f"{key}: {name}")
    revision = content_revision({entry.path: entry.tag for entry in entries})
    # Of a relative path, workers with another current folder would make another. "~" is each node's own.
    parent = cache if cache.startswith("~") else str(Path(cache).absolute())
    folder = storage.join(parent, f"{uri.rpartition('/')[2]}-{revision}")
    return Source(key, name, revision, BucketFiles(key, uri, folder, entries))


def _list(uri: str) -> tuple[storage.Entry, ...]:
    entries = {entry.path: entry for entry in storage.list_files(uri)}
    check_paths(entries, uri)
    return tuple(entries[path] for path in used(entries))


def _copy_checked(entry: storage.Entry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, one_piece = _copy(entry.uri, target), re.fullmatch("[0-9a-f]{32}", entry.tag)
    # Of an object put in one piece the ETag is its MD5, unless KMS encrypts it: then two copies are the same.
    if one_piece and digest != entry.tag and _copy(entry.uri, target) not in (digest, entry.tag):
        raise DependencyError(
            f"{entry.uri}: arrives damaged, and differently each time; check the connection to the server"
        )
    if target.stat().st_size != entry.size:
        raise _changed(entry.uri)


def _copy(uri: str, target: Path) -> str:
    """Copy an object to the file `target`; returns its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    with storage.open_input(uri) as content, target.open("wb") as file:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
            file.write(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


def _changed(uri: str) -> DataError:
    return DataError(f"{uri}: has changed since the job began; start the job again")


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(folder.name + ending)
