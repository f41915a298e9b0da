"""Text files: a document each, or a prompt a line."""

from typing import BinaryIO

import pyarrow as pa

from ragjob import schema
from ragjob.documents.readers.base import Decoded, DocumentReader, TableReader, decode_utf8, marked


class TextFile(DocumentReader):
    """Text in UTF-8, read as it stands."""

    def read(self, content: bytes) -> Decoded:
        return decode_utf8(content, "file")


class Lines(TableReader):
    """Text in UTF-8: each line that isn't blank is a row."""

    text_column = schema.PROMPT

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        lines = {number: line.rstrip(b"\r") for number, line in enumerate(file.read().split(b"\n")) if line.strip()}
        rows = pa.table({schema.PROMPT: pa.array(list(lines.values()), pa.binary())})
        return marked(rows, list(lines), [None] * len(lines))
