"""The formats of files that documents and prompts are read from: one line each, by the end of a file's name.

Upper and lower case are alike, and the formats in GZIPPED are read from `.gz` files, too.

Everything else about a format is in its module, which is imported when such a file is read.
"""

from collections import ChainMap
from collections.abc import Mapping
from functools import cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragjob.documents.readers.base import DocumentReader, TableReader

# Each row is a document or a prompt.
TABLES = {
    ".jsonl": "ragjob.documents.readers.jsonl:JSONLines",
    ".ndjson": "ragjob.documents.readers.jsonl:JSONLines",
    ".json": "ragjob.documents.readers.jsonl:JSONLines",
    ".csv": "ragjob.documents.readers.csv:CSV",
    ".parquet": "ragjob.documents.readers.parquet:Parquet",
}
# Each file is a document.
FILES = {
    ".txt": "ragjob.documents.readers.text:TextFile",
    ".md": "ragjob.documents.readers.markdown:Markdown",
    ".markdown": "ragjob.documents.readers.markdown:Markdown",
    ".pdf": "ragjob.documents.readers.pdf:PDF",
    ".html": "ragjob.documents.readers.html:HTML",
    ".htm": "ragjob.documents.readers.html:HTML",
    ".docx": "ragjob.documents.readers.docx:DOCX",
    ".pptx": "ragjob.documents.readers.pptx:PPTX",
    ".xlsx": "ragjob.documents.readers.xlsx:XLSX",
    ".epub": "ragjob.documents.readers.epub:EPUB",
}
# Each line is a prompt.
LINES = {".txt": "ragjob.documents.readers.text:Lines"}
GZIP = ".gz"
GZIPPED = frozenset({".csv", ".htm", ".html", ".json", ".jsonl", ".markdown", ".md", ".ndjson", ".txt"})
# Views of the above: the last map comes first.
DOCUMENTS = ChainMap(TABLES, FILES)
PROMPTS = ChainMap(TABLES, LINES)


def document_reader(path: str) -> "DocumentReader | TableReader":
    """The reader of a file of the corpus."""
    reader: DocumentReader | TableReader = _reader(_format(path, DOCUMENTS))
    return reader


def prompt_reader(path: str) -> "TableReader":
    """The reader of a file of prompts."""
    reader: TableReader = _reader(_format(path, PROMPTS))
    return reader


def is_read(path: str, formats: Mapping[str, str]) -> bool:
    """Return whether one of `formats`, DOCUMENTS or PROMPTS, takes a file."""
    return path.lower().endswith(suffixes(formats))


def listed(formats: Mapping[str, str]) -> str:
    """Their suffixes, as a sentence has them.

    >>> listed({".txt": "", ".md": "", ".csv": ""})
    '.txt, .md or .csv'
    """
    *others, last = formats
    return f"{', '.join(others)} or {last}"


def suffixes(formats: Mapping[str, str]) -> tuple[str, ...]:
    """The endings of file names that have a reader, in lower case; those in upper case have one, too.

    >>> suffixes({".txt": "", ".parquet": ""})
    ('.txt', '.txt.gz', '.parquet')
    """
    return tuple(end for suffix in formats for end in (suffix, suffix + GZIP) if end == suffix or suffix in GZIPPED)


def _format(path: str, formats: Mapping[str, str]) -> str:
    """Where the reader of a file is defined: the one place that tells formats apart."""
    name = path.lower().removesuffix(GZIP)
    return next(reader for suffix, reader in formats.items() if name.endswith(suffix))


@cache
def _reader(name: str) -> Any:
    return resolve_name(name)()
