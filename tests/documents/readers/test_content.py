import gzip
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob.documents.readers.base import Document
from ragjob.documents.readers.text import TextFile
from ragjob.errors import DataError
from tests.documents.readers.conftest import Decode

TEXT = "Ærø ferry, 18 knots\nพรุ่งนี้ 🚋\n"
MARKED = ["utf-8-sig", "utf-16", "utf-32"]
BIG_ENDIAN = ["\ufeff".encode(name) + TEXT.encode(name) for name in ("utf-16-be", "utf-32-be")]
WITHOUT_MARK = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
TABLES = {
    "x.txt": "tram\n",
    "x.csv": "prompt,n\ntram,1\n",
    "x.jsonl": '{"prompt": "tram"}\n',
    "x.ndjson": '{"prompt": "tram"}\n',
    "x.json": '[{"prompt": "tram"}]',
}


@pytest.mark.parametrize("content", [*(TEXT.encode(name) for name in MARKED), *BIG_ENDIAN])
def test_a_document_with_a_byte_order_mark_is_its_text(content: bytes) -> None:
    assert TextFile().read(content) == Document(TEXT)


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_a_byte_order_mark_is_read(decode: Decode, name: str, encoding: str) -> None:
    (row,) = decode(name, TABLES[name].encode(encoding)).to_pylist()
    assert row["prompt"] in ("tram", b"tram")


@pytest.mark.parametrize("encoding", WITHOUT_MARK)
@pytest.mark.parametrize("text", ["Who drives tram 7?\n", "Кто водит трамвай?\n", "ใครขับรถรางสายเจ็ด\n"])
def test_a_document_in_utf16_without_a_mark_is_an_error(text: str, encoding: str) -> None:
    assert re.match("file (is full of NUL|isn't UTF-8)", TextFile().read(text.encode(encoding)).error or "")


@pytest.mark.parametrize("encoding", WITHOUT_MARK)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_in_utf16_without_a_mark_is_refused_by_name(decode: Decode, name: str, encoding: str) -> None:
    with pytest.raises(DataError, match=rf"/{name}: file is full of NUL .* UTF-16 .*; save it as UTF-8$"):
        decode(name, TABLES[name].encode(encoding))


def test_words_between_nuls_are_no_text() -> None:
    assert TextFile().read(b"tram\0depot\0" * 50).text is None


@pytest.mark.parametrize("text", ["a stray NUL \0 in a long line of text", "\x1b[31mred\x1b[0m", "N\bNA\bAM\bME\bE"])
def test_a_few_control_characters_are_text(text: str) -> None:
    assert TextFile().read(text.encode()) == Document(text)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\xff\xfea", "file isn't UTF-16: byte 2 is wrong; save it as UTF-8"),
        (b"\xff\xfe\x00\x00a", "file isn't UTF-32: byte 4 is wrong; save it as UTF-8"),
        (gzip.compress(TEXT.encode())[:-6], "gzip data is damaged: .*; compress the file again"),
        (b"\x1f\x8b\x08 no gzip at all", "gzip data is damaged: .*; compress the file again"),
        (
            gzip.compress(bytes(1_000_000)) * 40,
            r"[\d,]+ bytes unpack to more than 100 times their size; .*, or unpack it",
        ),
    ],
    ids=["utf-16", "utf-32", "cut", "other", "bomb"],
)
def test_a_document_that_cant_be_unpacked_or_decoded_is_an_error(content: bytes, error: str) -> None:
    decoded = TextFile().read(content)
    assert decoded.text is None
    assert re.fullmatch(error, decoded.error or "")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_unpacked_whatever_its_name(decode: Decode, name: str) -> None:
    packed = gzip.compress(TABLES[name].encode())
    assert decode(name, packed).equals(decode(f"{name}.GZ", packed))
    assert decode(name, packed).equals(decode(f"_{name}", TABLES[name].encode()))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_unpacks_to_a_thousand_times_its_size_is_refused(decode: Decode, name: str) -> None:
    with pytest.raises(DataError, match=rf"/{name}: [\d,]+ bytes unpack to more than 100 times their size"):
        decode(name, gzip.compress(TABLES[name].encode() * (1_000_000 // len(TABLES[name]))) * 40)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), min_size=1, max_size=5))
def test_cr_alone_ends_a_line_as_lf_does(lines: list[str]) -> None:
    assert TextFile().read("\r".join(lines).encode()) == TextFile().read("\n".join(lines).encode())
    assert TextFile().read("\r\n".join(lines).encode()).text in ("\r\n".join(lines).removeprefix("\ufeff"), None)


@pytest.mark.parametrize("name", ["x.txt", "x.csv", "x.jsonl"])
@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_rows_end_in_cr_or_lf_or_both(decode: Decode, name: str, end: str) -> None:
    content = TABLES[name] + TABLES[name].splitlines(keepends=True)[-1].replace("tram", "depot")
    rows = decode(name, content.replace("\n", end).encode())
    assert [row["prompt"] for row in rows.to_pylist()] in (["tram", "depot"], [b"tram", b"depot"])
