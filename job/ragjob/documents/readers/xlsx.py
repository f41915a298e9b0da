"""XLSX: the sheets of a workbook, a row on each line."""

import io
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from itertools import zip_longest

from ragjob.documents.readers.archive import core_properties, open_archive
from ragjob.documents.readers.document import Document, Kind, Limits, Unreadable
from ragjob.documents.readers.draft import Draft
from ragjob.documents.readers.parsed import ParsedReader

Cell = int | float | str | bool | time | date | datetime | timedelta


class XLSX(ParsedReader):
    """Each sheet is a page with its name as heading, and each row a line that repeats the names of its columns.

    Names are those in the first row that holds text alone, in more than one cell.
    Formulas have the values that were stored with them.
    """

    def parse(self, content: bytes, limits: Limits) -> Document:
        from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum

        title, about = core_properties(open_archive(content))
        draft = Draft(limits)
        try:
            workbook = CalamineWorkbook.from_filelike(io.BytesIO(content))
            for sheet in workbook.sheets_metadata:
                draft.turn_page(ends_sections=True)
                if sheet.typ == SheetTypeEnum.WorkSheet:
                    rows = workbook.get_sheet_by_name(sheet.name).iter_rows()
                    _add_sheet(draft, sheet.name, rows)
        except PasswordError as error:
            raise Unreadable("file has a password; save it without one") from error
        except CalamineError as error:
            raise Unreadable(f"file is damaged or isn't XLSX ({error}); save it again") from error
        return draft.document(title, about)


def _add_sheet(draft: Draft, name: str, rows: Iterable[list[Cell]]) -> None:
    names: list[str] = []
    is_first = True
    for row in rows:
        if row.count("") == len(row):
            continue
        cells = [" ".join(_text(cell).split()) for cell in row]
        if is_first:
            draft.add_heading(name, 1)
            is_first = False
        if names:
            line = " | ".join(_named(*pair) for pair in zip_longest(names, cells, fillvalue="") if pair[1])
        else:
            line = " | ".join(filter(None, cells))
            names = cells if sum(map(bool, cells)) > 1 and all(isinstance(cell, str) for cell in row) else []
        draft.add(line, Kind.TABLE, gap="\n")


def _named(name: str, cell: str) -> str:
    return f"{name}: {cell}" if name else cell


def _text(cell: Cell) -> str:
    """A value as a reader of the sheet would write it.

    >>> [_text(cell) for cell in (42.0, 0.5, True, datetime(1931, 5, 2), datetime(1931, 5, 2, 9, 30))]
    ['42', '0.5', 'TRUE', '1931-05-02', '1931-05-02 09:30:00']
    """
    match cell:
        case bool():
            return str(cell).upper()
        case float() if cell.is_integer():
            return str(int(cell))
        case datetime() if cell.time() == time():
            return cell.date().isoformat()
    return str(cell)
