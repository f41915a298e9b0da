import io
from datetime import date, datetime

import pytest
import xlsxwriter

from ragjob.documents.readers.base import Kind
from ragjob.documents.readers.document import Limits
from ragjob.documents.readers.xlsx import XLSX
from tests.documents.readers.documents import archive, blocks, unpacked

SHEET = "xl/worksheets/sheet1.xml"


@pytest.fixture(scope="module")
def workbook() -> bytes:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content)
    book.set_properties({"title": "The fleet", "author": "A. B.", "created": date(1931, 5, 2)})
    fleet = book.add_worksheet("Fleet")
    fleet.write(0, 0, "Fleet of 1931")
    fleet.write_row(2, 1, ["Depot", "Cars", "Opened"])
    fleet.write_row(3, 1, ["Nordhavn", 42])
    fleet.write_datetime(3, 3, datetime(1931, 5, 2), book.add_format({"num_format": "yyyy-mm-dd"}))
    fleet.write_row(5, 1, ["Amager", 0.5])
    fleet.write(5, 4, "closed")
    book.add_worksheet("Empty")
    book.add_worksheet("Remarks").write(0, 0, "None so far.")
    book.close()
    return content.getvalue()


def test_each_sheet_is_a_page_whose_rows_repeat_the_names_of_columns(workbook: bytes) -> None:
    rows = [
        "Fleet of 1931",
        "Depot | Cars | Opened",
        "Depot: Nordhavn | Cars: 42 | Opened: 1931-05-02",
        "Depot: Amager | Cars: 0.5 | closed",
    ]
    assert blocks(XLSX().read(workbook)) == [
        (Kind.HEADING, 1, 1, "Fleet"),
        (Kind.TABLE, 0, 1, "\n".join(rows)),
        (Kind.HEADING, 1, 3, "Remarks"),
        (Kind.TABLE, 0, 3, "None so far."),
    ]


def test_properties_are_the_title_and_metadata(workbook: bytes) -> None:
    document = XLSX().read(workbook)
    assert document.title == "The fleet"
    assert document.metadata["author"] == "A. B."


def with_rows(workbook: bytes, rows: bytes) -> bytes:
    files = unpacked(workbook)
    return archive(files | {SHEET: files[SHEET].replace(b"</sheetData>", rows + b"</sheetData>")})


def test_a_million_empty_rows_are_read(workbook: bytes) -> None:
    empty = b"".join(b'<row r="%d"/>' % number for number in range(7, 1_000_000))
    assert XLSX().read(with_rows(workbook, empty)).text == XLSX().read(workbook).text


def test_a_cell_in_the_farthest_corner_is_an_error(workbook: bytes) -> None:
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    assert "its parser crashed" in (XLSX().read(with_rows(workbook, far)).error or "")


def test_a_damaged_workbook_and_one_of_too_many_characters_are_errors(workbook: bytes) -> None:
    damaged = archive(unpacked(workbook) | {"xl/workbook.xml": b"<"})
    assert (XLSX().read(damaged).error or "").startswith("file is damaged or isn't XLSX (")
    assert (XLSX().read_within(workbook, Limits(9, 50)).error or "").startswith("document has more than 50 characters")
