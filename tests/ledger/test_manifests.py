import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.ledger.manifests import DamagedError, ManifestKind, UnknownFormatError
from ragjob.settings import CollectionStem, FileName, Name


@dataclass(frozen=True)
class Label:
    """What some file says."""

    name: str
    rows: int = 0
    format: int = 2


LABELS = ManifestKind(Label, 2, "index.uri", "make it anew")


def test_a_file_without_a_number_is_of_the_first_format() -> None:
    assert LABELS.parse(b'{"name": "a"}', "label.json") == Label("a", format=1)


@pytest.mark.parametrize("number", [1, 2])
def test_formats_up_to_the_newest_are_read(number: int) -> None:
    data = b'{"name": "a", "rows": 7, "format": %d}' % number
    assert LABELS.parse(data, "label.json") == Label("a", 7, number)


def test_fields_that_this_release_doesnt_know_are_ignored() -> None:
    assert LABELS.parse(b'{"name": "a", "format": 2, "segments": ["s"]}', "label.json") == Label("a")


@pytest.mark.parametrize("number", ["3", "99", "0", "-1", "1.5", '"two"', "null", "[1]"])
def test_a_format_that_this_release_doesnt_know_is_refused_in_one_line_with_a_remedy(number: str) -> None:
    with pytest.raises(UnknownFormatError) as refused:
        LABELS.parse(f'{{"name": "a", "format": {number}}}'.encode(), "label.json")
    shown = number.replace('"', "'").replace("null", "None")
    assert str(refused.value) == (
        f"index.uri: label.json has format {shown}, and this release reads up to 2: upgrade ragjob, or make it anew"
    )


def test_a_newer_file_is_refused_before_its_fields_are_read() -> None:
    with pytest.raises(UnknownFormatError):
        LABELS.parse(b'{"title": "a", "format": 3}', "label.json")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'"name"', b"7", b"null", b"\xff", b"{}", b'{"name": 7}', b'{"name": "a", "rows": "b"}']
)
def test_a_damaged_file_is_told_from_a_newer_one_in_one_line(data: bytes) -> None:
    with pytest.raises(DamagedError, match=r"^[^\n]+$"):
        LABELS.parse(data, "label.json")


@dataclass(frozen=True)
class Names:
    """What a file names that lies beside it."""

    version: Name
    file: FileName
    collection: CollectionStem
    format: int = 1


NAMES = ManifestKind(Names, 1, "index.uri", "make it anew")
FINE = {"version": "90cbc9bcc3b462d3", "file": "_documents-1f.parquet", "collection": "corpus"}
LEADING_OUT = ["../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\n", "a b", ".hidden", "a" * 201, "é"]


@pytest.mark.parametrize("field", FINE)
@pytest.mark.parametrize("name", LEADING_OUT)
def test_a_name_that_could_lead_to_another_folder_is_damage(field: str, name: str) -> None:
    with pytest.raises(DamagedError, match=rf"^{field}: String should (match pattern|have at most 64 characters)"):
        NAMES.parse(json.dumps(FINE | {field: name}).encode(), "names.json")


@given(name=st.text(min_size=1) | st.from_regex(r"[A-Za-z0-9_./-]{1,20}"))
def test_whatever_a_file_names_lies_in_its_own_folder(name: str) -> None:
    assert lies_in_the_folder(name) or not is_accepted(name)


def is_accepted(name: str) -> bool:
    try:
        NAMES.parse(json.dumps(FINE | {"file": name}).encode(), "names.json")
    except DamagedError:
        return False
    return True


def lies_in_the_folder(name: str) -> bool:
    return "\0" not in name and Path("/folder", name).resolve().parent == Path("/folder")
