"""JSON files that outlive a release: each says by a number how to read it.

A file without a number has format 1, as release 0.1 wrote it. Readers take every format up to the newest that they
know, ignore fields that they don't know, and refuse anything else.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from ragjob import storage
from ragjob.errors import DataError
from ragjob.ledger.files import read_if_there
from ragjob.settings import NAME

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FIRST_FORMAT = 1  # of files without a number

# The newest format of each file that this release reads, and the one that it writes. Raise one when an older release
# would misread the file. What would be computed has a number of its own: `schema.INDEX_FORMAT`.
INDEX_MANIFEST_FORMAT = 2  # manifest.json of an index version; since 2 its chunks are in segments
SEGMENT_FORMAT = 1  # segment.json
SENTENCES_FORMAT = 1  # sentences-<key>.json of a segment
CURRENT_FORMAT = 1  # current.json
RUN_MANIFEST_FORMAT = 1  # _manifest.json of a run
CLAIM_FORMAT = 1  # identity.json of a run under way
EVALUATION_FORMAT = 1  # _evaluation.json of a run

ELSEWHERE = "run `ragjob index` with another index.uri"  # the remedy where an index is of a newer release

Content = TypeVar("Content", bound="DataclassInstance")


def is_name(text: str) -> bool:
    """Return whether a run, an index version or a segment may have this name."""
    return re.fullmatch(NAME, text) is not None


class UnknownFormatError(DataError):
    """A file has a format that this release can't read, since a newer one wrote it."""


class DamagedError(Exception):
    """A file isn't whole, or isn't what its name says; the message is one line."""


@dataclass(frozen=True)
class ManifestKind(Generic[Content]):
    """One kind of file: the dataclass of its content, and the newest format of it.

    `setting` is the one that leads to such a file; `remedy` is what a user can do instead of upgrading; `damage` is
    what the error for a damaged file says, with `{}` for the fault, and the remedy.
    """

    content: type[Content]
    newest: int
    setting: str
    remedy: str
    damage: str = "can't be read: {}; remove it and run the job again"

    def read(self, uri: str) -> Content | None:
        """The content of the file at `uri`, or None when there is none.

        Raises `UnknownFormatError` for one that a newer release wrote, and `DataError` for one that is damaged.
        """
        with storage.naming(self.setting):
            data = read_if_there(uri)
        try:
            return None if data is None else self.parse(data, uri)
        except DamagedError as error:
            raise DataError(f"{self.setting}: {uri} {self.damage.format(error)}") from error

    def parse(self, data: bytes, uri: str) -> Content:
        """The content of the file at `uri`, whose bytes are `data`.

        Raises `UnknownFormatError` for a format that this release doesn't know, else `DamagedError` for a file that
        can't be read.
        """
        try:
            content = json.loads(data)
        except ValueError as error:
            raise DamagedError(str(error)) from error
        if not isinstance(content, dict):
            raise DamagedError("holds no JSON object")
        fields = {"format": FIRST_FORMAT, **content}
        number = fields["format"]
        if number not in range(FIRST_FORMAT, self.newest + 1):
            raise UnknownFormatError(
                f"{self.setting}: {uri} has format {number!r}, and this release reads up to {self.newest}: "
                f"upgrade ragjob, or {self.remedy}"
            )
        try:
            return TypeAdapter(self.content).validate_python(fields)
        except ValidationError as error:
            first = error.errors()[0]
            raise DamagedError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
