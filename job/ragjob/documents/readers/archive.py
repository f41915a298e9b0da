"""Zip files that are documents: they are checked before anything is unpacked, and their properties are read."""

import io
from typing import Any
from zipfile import BadZipFile, ZipFile

from ragjob.documents.readers.content import MAX_UNPACKED_BYTES, check_unpacked
from ragjob.documents.readers.document import Unreadable

MAX_ENTRIES = 10_000
OLE_MAGIC = b"\xd0\xcf\x11\xe0"  # of Office's files from before 2007, and of those with a password
CORE_PROPERTIES = "docProps/core.xml"
# Properties of Office's files as metadata.
NAMES = {
    "creator": "author",
    "created": "date",
    "modified": "modified",
    "language": "language",
    "subject": "subject",
    "keywords": "keywords",
    "description": "description",
}


def open_archive(content: bytes) -> ZipFile:
    """Open a zip file of ordinary size. Raises `Unreadable` for a larger one, and for one with a password."""
    if content.startswith(OLE_MAGIC):
        raise Unreadable("file has a password or is in an old Office format; save it without one, in the newer format")
    try:
        archive = ZipFile(io.BytesIO(content))
    except (BadZipFile, OSError, ValueError) as error:
        raise Unreadable(f"file is cut short or damaged ({error}); copy or save it again") from error
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise Unreadable(f"file is an archive of more than {MAX_ENTRIES:,} files; split it, or leave it out")
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unreadable("file has a password; save it without one")
    size = sum(entry.file_size for entry in entries)
    check_unpacked(size, len(content))
    if size > MAX_UNPACKED_BYTES:
        raise Unreadable(f"file unpacks to more than {MAX_UNPACKED_BYTES / 2**20:.0f} MiB; split it, or leave it out")
    return archive


def parse_xml(content: bytes) -> Any:
    """The root of an XML document whose entities stay as they are, and that loads nothing."""
    from lxml import etree

    return etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))


def core_properties(archive: ZipFile) -> tuple[str | None, dict[str, object]]:
    """The title and the metadata of an Office file."""
    if CORE_PROPERTIES not in archive.namelist():
        return None, {}
    return properties(parse_xml(archive.read(CORE_PROPERTIES)))


def properties(parent: Any) -> tuple[str | None, dict[str, object]]:
    """The title and the metadata that elements of Dublin Core below `parent` state: the first of each."""
    given: dict[str, str] = {}
    for element in parent.iterchildren("{*}*"):
        given.setdefault(element.tag.rpartition("}")[2], element.text or "")
    return given.get("title"), {ours: given[theirs] for theirs, ours in NAMES.items() if theirs in given}
