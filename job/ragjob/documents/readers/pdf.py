"""PDF: the text of its pages, with headings where the size of the letters shows them."""

import ctypes
import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from ragjob.documents.readers.document import Document, Limits, Unreadable
from ragjob.documents.readers.draft import Draft
from ragjob.documents.readers.parsed import ParsedReader

HEAD_BYTES, TAIL_BYTES = 1024, 4096
LARGER = 1.15  # times the size of the body's letters: a heading's
MAX_HEADING_CHARS, MAX_HEADING_LINES = 200, 3
MAX_SHARE = 0.4  # of a document's characters: with more of them in headings, sizes tell nothing
MAX_LEVEL = 6
PARAGRAPH_GAP = 1.6  # times the size of the letters, from line to line
NO_TEXT = "no text layer; run OCR first"
_HYPHEN = re.compile("[\x02\ufffe]\n?")  # what PDFium makes of a hyphen at the end of a line
_DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d))?")
INFO = {"Author": "author", "Subject": "subject", "Keywords": "keywords"}
DATES = {"CreationDate": "date", "ModDate": "modified"}


class Line(NamedTuple):
    """A line of text; `size` of its letters, to half a point, and `y` of its baseline are 0 where they aren't known."""

    page: int
    text: str
    size: float = 0
    y: float = 0


class PDF(ParsedReader):
    """The text of each page, in the order in which the file has it, from PDFium; from pypdf if PDFium can't open it."""

    def parse(self, content: bytes, limits: Limits) -> Document:
        import pypdfium2

        if b"%PDF-" not in content[:HEAD_BYTES]:
            raise Unreadable("file isn't a PDF; give it the right extension, or leave it out")
        if b"%%EOF" not in content[-TAIL_BYTES:]:
            raise Unreadable("file is cut short: its end is missing; copy it again")
        try:
            lines, info = _by_pdfium(content, limits)
        except pypdfium2.PdfiumError as error:
            if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
                raise Unreadable("file has a password; save it without one") from error
            lines, info = _by_pypdf(content, limits)
        draft = Draft(limits)
        _add(draft, lines)
        document = draft.document(info.pop("title", None), info)
        return document if document.text else Document(None, NO_TEXT, document.title, (), document.metadata)


def _by_pdfium(content: bytes, limits: Limits) -> tuple[list[Line], dict[str, Any]]:
    import pypdfium2

    with pypdfium2.PdfDocument(content) as pdf:
        limits.check_pages(len(pdf))
        lines: list[Line] = []
        chars = 0
        for number in range(len(pdf)):
            page = pdf[number]
            text = page.get_textpage()
            lines += _lines(text, number + 1)
            chars += text.count_chars()
            limits.check_chars(chars)
            text.close()
            page.close()
        return lines, _info(pdf.get_metadata_dict()) | {"language": _language(pdf)}


def _lines(page: Any, number: int) -> Iterator[Line]:
    """The lines of a page, each with the size and the place of its first letter."""
    from pypdfium2 import raw

    x, y, matrix = ctypes.c_double(), ctypes.c_double(), raw.FS_MATRIX()
    at, whole = 0, page.get_text_range()
    for line in whole.splitlines(keepends=True):
        text = line.strip()
        if text:
            first = raw.FPDFText_GetCharIndexFromTextIndex(page, at + line.index(text[0]))
            raw.FPDFText_GetCharOrigin(page, first, x, y)
            raw.FPDFText_GetMatrix(page, first, matrix)
            size = raw.FPDFText_GetFontSize(page, first) * math.hypot(matrix.b, matrix.d)
            yield Line(number, text, round(2 * size) / 2, y.value)
        at += len(line) + sum(char > "\uffff" for char in line)  # PDFium counts in UTF-16


def _by_pypdf(content: bytes, limits: Limits) -> tuple[list[Line], dict[str, Any]]:
    from pypdf import PdfReader

    pdf = PdfReader(io.BytesIO(content))
    if pdf.is_encrypted:
        raise Unreadable("file has a password; save it without one")
    limits.check_pages(len(pdf.pages))
    texts = enumerate((page.extract_text() for page in pdf.pages), 1)
    lines = [Line(number, line) for number, text in texts for line in text.splitlines() if line.strip()]
    return lines, _info({name.removeprefix("/"): str(value) for name, value in (pdf.metadata or {}).items()})


def _language(pdf: Any) -> str | None:
    from pypdfium2 import raw

    size = raw.FPDFCatalog_GetLanguage(pdf, None, 0)
    buffer = ctypes.create_string_buffer(size)
    raw.FPDFCatalog_GetLanguage(pdf, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw.decode("utf-16-le", "replace").rstrip("\0") or None


def _info(given: dict[str, str]) -> dict[str, Any]:
    about: dict[str, Any] = {ours: given.get(theirs) for theirs, ours in INFO.items()}
    return about | {"title": given.get("Title")} | {ours: _date(given.get(theirs)) for theirs, ours in DATES.items()}


def _date(text: str | None) -> str | None:
    """A date of PDF as ISO 8601 has it.

    >>> _date("D:19310502093000+01'00'"), _date("D:1931"), _date("May 1931")
    ('1931-05-02T09:30:00', '1931', 'May 1931')
    """
    match = _DATE.match(text or "")
    if not match:
        return text
    day = "-".join(filter(None, match.groups()[:3]))
    return f"{day}T{':'.join(match.groups()[3:])}" if match[4] else day


def _add(draft: Draft, lines: list[Line]) -> None:
    levels = _levels(lines)
    page = 0
    for paragraph in _paragraphs(lines):
        first = paragraph[0]
        while page < first.page:
            page = draft.turn_page()
        text = _joined(paragraph)
        if first.size in levels and len(paragraph) <= MAX_HEADING_LINES and len(text) <= MAX_HEADING_CHARS:
            draft.add_heading(text, levels[first.size])
        else:
            draft.add(text)


def _paragraphs(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines of one page and size that follow one another without a gap."""
    paragraph: list[Line] = []
    for line in lines:
        if paragraph:
            last = paragraph[-1]
            gap = last.y - line.y
            if (last.page, last.size) != (line.page, line.size) or not 0 <= gap <= PARAGRAPH_GAP * line.size:
                yield paragraph
                paragraph = []
        paragraph.append(line)
    if paragraph:
        yield paragraph


def _joined(paragraph: list[Line]) -> str:
    """The text of a paragraph's lines. A word hyphenated at a line's end is rejoined."""
    text = "\n".join(line.text for line in paragraph)
    return _HYPHEN.sub("", text)


def _levels(lines: list[Line]) -> dict[float, int]:
    """The level of headings whose letters have a size: none where too much of the text is larger than its body."""
    chars = Counter[float]()
    for line in lines:
        chars[line.size] += len(line.text)
    if not chars:
        return {}
    body = chars.most_common(1)[0][0]
    sizes = sorted((size for size in chars if size > LARGER * body > 0), reverse=True)
    if sum(chars[size] for size in sizes) > MAX_SHARE * chars.total():
        return {}
    return {size: min(level, MAX_LEVEL) for level, size in enumerate(sizes, 1)}
