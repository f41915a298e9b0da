"""Files put on S3 part by part, which appear whole or not at all."""

import io
from contextlib import suppress
from typing import Any
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from ragjob.errors import DependencyError
from ragjob.storage.names import MissingError
from ragjob.storage.s3_client import attempt, client, encryption, where
from ragjob.storage.s3_errors import ConditionFailedError, NoUploadError

PART_BYTES = 8 * 2**20  # of the first parts
_MARK = "ragjob-upload"  # metadata that tells this process's object from another's


def part_bytes(before: int) -> int:
    """Size of the part after that many others: the 10,000 that S3 takes hold the 5 TiB that an object may have."""
    return PART_BYTES << before // 1000


class Upload(io.RawIOBase):
    """A file to write to; `finish` puts what was written at `uri`, unless there is an object by then.

    Holds one part in memory.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._mark = uuid4().hex
        self._part = bytearray()
        self._tags: list[str] = []
        self._id: str | None = None

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        left: memoryview = memoryview(content).cast("B")
        count = len(left)
        while left:
            size = part_bytes(len(self._tags))
            taken = left[: size - len(self._part)]
            self._part += taken
            left = left[len(taken) :]
            if len(self._part) == size:
                self._send()
        return count

    def finish(self) -> bool:
        """Return whether this file is what is at `uri` now."""
        try:
            if self._id is None:
                self._put()
            else:
                self.complete()
        except (ConditionFailedError, NoUploadError) as error:
            # Also what a request is answered that took effect and was sent again.
            return self._stands(error)
        return True

    def abort(self) -> None:
        """Give up at once, without an error: what can't be removed now is swept later."""
        if self._id is not None:
            with suppress(BotoCoreError, ClientError):
                client().abort_multipart_upload(**self._where())

    def _where(self) -> dict[str, Any]:
        return where(self._uri) | {"UploadId": self._id}

    def _marked(self) -> dict[str, Any]:
        return where(self._uri) | {"Metadata": {_MARK: self._mark}} | encryption()

    def _send(self) -> None:
        if self._id is None:
            self._id = attempt(self._uri, lambda s3: s3.create_multipart_upload(**self._marked()))["UploadId"]
        part = {"PartNumber": len(self._tags) + 1, "Body": self._part}
        self._tags.append(attempt(self._uri, lambda s3: s3.upload_part(**self._where(), **part))["ETag"])
        self._part = bytearray()

    def _put(self) -> None:
        attempt(self._uri, lambda s3: s3.put_object(**self._marked(), Body=self._part, IfNoneMatch="*"))

    def complete(self) -> None:
        """Raises `ConditionFailedError` when there is an object by now."""
        if self._part:
            self._send()
        parts = {"Parts": [{"PartNumber": at, "ETag": tag} for at, tag in enumerate(self._tags, 1)]}
        attempt(
            self._uri,
            lambda s3: s3.complete_multipart_upload(**self._where(), MultipartUpload=parts, IfNoneMatch="*"),
        )

    def _stands(self, error: DependencyError) -> bool:
        try:
            head = attempt(self._uri, lambda s3: s3.head_object(**where(self._uri)))
        except MissingError:
            raise error from None
        return bool(head["Metadata"].get(_MARK) == self._mark)
