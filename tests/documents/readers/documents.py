"""How tests look at documents, and make archives."""

import io
from collections.abc import Mapping
from itertools import pairwise
from zipfile import ZIP_DEFLATED, ZipFile

from ragjob.documents.readers.base import Document, Kind


def blocks(document: Document) -> list[tuple[Kind, int, int | None, str]]:
    """Kind, level, page and text of each block, without the space around it."""
    text = document.text or ""
    starts = [*(block.start for block in document.blocks), len(text)]
    texts = [text[start:end].strip() for start, end in pairwise(starts)]
    return [(block.kind, block.level, block.page, part) for block, part in zip(document.blocks, texts, strict=True)]


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A zip file."""
    content = io.BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED) as file:
        for name, body in files.items():
            file.writestr(name, body)
    return content.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    """The files of a zip file."""
    with ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}
