"""Objects in buckets, as files: a prefix that ends in `/` is a folder."""

import io
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, BinaryIO, cast

from botocore.exceptions import ClientError

from ragjob.errors import DependencyError
from ragjob.storage.names import (
    HIDDEN,
    Entry,
    MissingError,
    Refuse,
    Skipped,
    Unfinished,
    before_wildcard,
    has_wildcards,
    is_shown,
    matches,
    split,
    split_glob,
)
from ragjob.storage.s3_client import attempt, encryption, where
from ragjob.storage.s3_errors import ConditionFailedError, NoUploadError, RangeError
from ragjob.storage.s3_read import READ_AHEAD_BYTES, ObjectFile
from ragjob.storage.s3_upload import Upload

DELETE_KEYS = 1000  # in one request, at most


def find(uri: str, refuse: Refuse) -> tuple[list[Entry], list[Skipped]]:
    """The objects that `uri` (object, prefix or glob) stands for: one request per 1,000 keys."""

    def refuse_hidden(path: str) -> str | None:
        return refuse(path) if is_shown(path) else HIDDEN

    if has_wildcards(split(uri)[1]) and (matching := _glob(uri)) is not None:
        return _divide(matching, refuse_hidden)
    below = list_files(uri)
    if not any(is_shown(entry.path) for entry in below) and (single := _single(uri)):
        return _divide(single, refuse)
    return _divide(below, refuse_hidden)


def list_files(folder: str) -> list[Entry]:
    return list(_entries(folder, _folder(folder)))


def list_names(folder: str) -> list[str]:
    return [entry.path for entry in _entries(folder, _folder(folder), Delimiter="/")]


def list_unfinished(folder: str) -> list[Unfinished]:
    bucket = split(folder)[0]
    return [
        Unfinished(f"s3://{bucket}/{upload['Key']}", upload["Initiated"])
        for upload in _uploads(folder, _folder(folder))
    ]


def exists(uri: str) -> bool:
    try:  # a HEAD is answered without a word on what is wrong
        attempt(uri, lambda s3: s3.get_object(**where(uri), Range="bytes=0-0")["Body"].read(1))
    except MissingError:
        return False
    except RangeError:  # it is empty
        return True
    return True


def open_input(uri: str, tag: str | None) -> BinaryIO:
    return io.BufferedReader(ObjectFile(uri, tag), READ_AHEAD_BYTES)


def put(uri: str, content: bytes) -> None:
    attempt(uri, lambda s3: s3.put_object(**where(uri), Body=content, **encryption()))


def put_if_absent(uri: str, content: bytes) -> bool:
    try:
        attempt(uri, lambda s3: s3.put_object(**where(uri), Body=content, IfNoneMatch="*", **encryption()))
    except ConditionFailedError:
        return False
    return True


def publish(uri: str, write: Callable[[BinaryIO], object]) -> bool:
    if exists(uri):
        return False
    upload = Upload(uri)
    try:
        write(cast(BinaryIO, upload))
        done = upload.finish()
    except BaseException:
        upload.abort()
        raise
    if not done:
        upload.abort()
    return done


def delete(uris: list[str]) -> None:
    for bucket, group in groupby(uris, lambda uri: split(uri)[0]):
        keys = [split(uri)[1] for uri in group]
        for first in range(0, len(keys), DELETE_KEYS):
            _delete(bucket, keys[first : first + DELETE_KEYS])


def delete_folder(folder: str) -> None:
    delete([f"{folder.rstrip('/')}/{name}" for name in list_names(folder)])


def sweep_unfinished(uri: str) -> None:
    for upload in _uploads(uri, split(uri)[1]):
        if upload["Key"] == split(uri)[1]:
            _abort(uri, upload["UploadId"])


def check_writable(probe: str) -> None:
    put(probe, b"first")
    try:
        _check_conditions(probe)
        sweep_unfinished(probe)
    finally:
        delete([probe])


def absolute(uri: str) -> str:
    split(uri)
    return uri.rstrip("/")


resolved = absolute


def _divide(entries: list[Entry], refuse: Refuse) -> tuple[list[Entry], list[Skipped]]:
    """The objects that are read, and those that are passed over."""
    reasons = [refuse(entry.path) for entry in entries]
    read = [entry for entry, reason in zip(entries, reasons, strict=True) if not reason]
    return read, [Skipped(entry.path, reason) for entry, reason in zip(entries, reasons, strict=True) if reason]


def _folder(uri: str) -> str:
    """Prefix of the keys in folder `uri`."""
    key = split(uri)[1]
    return key.rstrip("/") + "/" if key.rstrip("/") else ""


def _glob(uri: str) -> list[Entry] | None:
    """What glob `uri` takes; None when it is the plain name of an object or a folder."""
    key = split(uri)[1]
    fixed, pattern = split_glob(key.rstrip("/"))
    base = fixed + "/" if fixed else ""
    entries = list(_entries(uri, base, begin=base + before_wildcard(pattern)))
    if any(f"{base}{entry.path}/".startswith(key.rstrip("/") + "/") for entry in entries):
        return None
    return [entry for entry in entries if matches(entry.path, pattern)]


def _single(uri: str) -> list[Entry]:
    """The object at `uri`: the first of those that begin with it."""
    bucket, key = split(uri)
    folder, slash, name = key.rpartition("/")
    if not name:
        return []
    answer = attempt(uri, lambda s3: s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1))
    objects = [s3_object for s3_object in answer.get("Contents", []) if s3_object["Key"] == key]
    return [_entry(bucket, s3_object, folder + slash) for s3_object in objects]


def _entries(uri: str, base: str, begin: str | None = None, **fields: str) -> Iterator[Entry]:
    """The objects whose keys begin with `begin` (by default `base`), by their paths after `base`."""
    bucket = split(uri)[0]
    fields |= {"Bucket": bucket, "Prefix": base if begin is None else begin}
    for page in _pages(uri, "list_objects_v2", {"ContinuationToken": "NextContinuationToken"}, fields):
        for s3_object in page.get("Contents", []):
            if not s3_object["Key"].endswith("/"):  # what consoles put to show an empty folder
                yield _entry(bucket, s3_object, base)


def _entry(bucket: str, s3_object: dict[str, Any], base: str) -> Entry:
    key, tag = s3_object["Key"], s3_object["ETag"].strip('"')
    uri = f"s3://{bucket}/{key}"
    return Entry(uri, key.removeprefix(base), s3_object["Size"], tag, s3_object["LastModified"], uri)


def _uploads(uri: str, prefix: str) -> Iterator[dict[str, Any]]:
    marks = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
    for page in _pages(uri, "list_multipart_uploads", marks, {"Bucket": split(uri)[0], "Prefix": prefix}):
        yield from page.get("Uploads", [])


def _pages(uri: str, operation: str, marks: dict[str, str], fields: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Answers to a listing, page by page; `marks` are a request's fields by those of the answer before."""
    while True:
        page = attempt(uri, lambda s3: getattr(s3, operation)(**fields))  # noqa: B023 - called at once
        yield page
        if not page.get("IsTruncated"):
            return
        fields = fields | {asked: page[told] for asked, told in marks.items()}


def _delete(bucket: str, keys: list[str]) -> None:
    asked = {"Objects": [{"Key": key} for key in keys], "Quiet": True}

    def remove(s3: Any) -> None:
        answer = s3.delete_objects(Bucket=bucket, Delete=asked)
        for failed in answer.get("Errors", [])[:1]:
            status = 500 if failed["Code"] == "InternalError" else 400
            raise ClientError({"Error": failed, "ResponseMetadata": {"HTTPStatusCode": status}}, "DeleteObjects")

    attempt(f"s3://{bucket}/{keys[0]}", remove)


def _abort(uri: str, upload: str) -> None:
    try:
        attempt(uri, lambda s3: s3.abort_multipart_upload(**where(uri), UploadId=upload))
    except NoUploadError:  # ended by itself
        return


def _check_conditions(probe: str) -> None:
    """See that neither kind of conditional request replaces the object at `probe`."""
    kept = not put_if_absent(probe, b"second")
    upload = Upload(probe)
    try:
        upload.write(b"third")
        upload.complete()
        kept = False
    except ConditionFailedError:
        pass
    finally:
        upload.abort()
    if not kept:
        raise DependencyError(
            f"{probe}: the server ignores If-None-Match, so that two attempts could publish at once; "
            "use a server that supports it for PutObject and CompleteMultipartUpload"
        )
