from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from ragjob.documents.inputs import list_prompts
from ragjob.documents.readers import prompt_reader
from ragjob.documents.readers.base import WHOLE_FILE, segment_rows

Decode = Callable[..., pa.Table]


@pytest.fixture
def decode(tmp_path: Path) -> Decode:
    """The rows of a segment of a file with this name and content."""

    def decode(name: str, content: bytes, group: int = WHOLE_FILE, columns: tuple[str, ...] | None = None) -> pa.Table:
        (tmp_path / name).write_bytes(content)
        entry = list_prompts(str(tmp_path / name)).entries[0]
        return segment_rows(prompt_reader(name), entry.uri, entry.tag, group, columns)

    return decode
