import pytest

from ragjob.documents.readers.base import ROW, Document
from ragjob.documents.readers.text import TextFile
from tests.documents.readers.conftest import Decode


def test_each_line_of_a_text_file_is_a_prompt_unless_blank(decode: Decode) -> None:
    rows = decode("x.txt", b"one\r\n\n  \ntwo\xff\n\tthree")
    assert rows["prompt"].to_pylist() == [b"one", b"two\xff", b"\tthree"]
    assert rows[ROW].to_pylist() == [0, 3, 4]


@pytest.mark.parametrize(
    ("content", "text", "error"),
    [
        ("\ufeffé\n".encode(), "é\n", None),
        (b"", "", None),
        (b"caf\xe9", "caf\ufffd", "file isn't UTF-8: byte 3 is wrong; save it as UTF-8"),
    ],
)
def test_a_text_file_is_read_as_it_stands(content: bytes, text: str, error: str | None) -> None:
    assert TextFile().read(content) == Document(text, error)


def test_an_empty_text_file_has_no_lines(decode: Decode) -> None:
    assert decode("x.txt", b"").num_rows == 0
