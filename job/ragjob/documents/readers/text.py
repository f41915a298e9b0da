"""Text files: one document each, or one prompt per line."""

from typing import BinaryIO

import pyarrow as pa

from ragjob.documents.readers.base import Document, DocumentReader, TableReader, marked
from ragjob.documents.readers.content import decode_text, split_lines, table_bytes
from ragjob.ledger import schema


class TextFile(DocumentReader):
    """Text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, read as it stands. CR alone becomes LF."""

    def read(self, content: bytes) -> Document:
        return Document(*decode_text(content))


class Lines(TableReader):
    """Text as `TextFile` reads it: each line that isn't blank is a row."""

    text_column = schema.PROMPT

    def decode(self, file: BinaryIO, group: int, columns: tuple[str, ...] | None) -> pa.Table:
        lines = {number: line for number, line in enumerate(split_lines(table_bytes(file.read()))) if line.strip()}
        rows = pa.table({schema.PROMPT: pa.array(list(lines.values()), pa.binary())})
        return marked(rows, list(lines), [None] * len(lines))
