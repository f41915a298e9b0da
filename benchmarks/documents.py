"""Reading documents on one core, as a job reads them: PDF and HTML through the process that parses.

The goals are pages in a second of a processor, in both processes: 60 of PDF, 200 of HTML of 25 KB. RAGJOB_BENCH_PDF
names a PDF to take instead of one that is made of the sample's text, with 40 lines on each page.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks.figures import Figure, compare
from benchmarks.jobs import novel
from ragjob.documents.readers import document_reader
from ragjob.documents.readers.base import Document, DocumentReader
from tests.documents.readers.pdfs import pdf

PDF_PAGES, LINES, LINE_CHARS = 200, 40, 90
HTML_PAGES, HTML_BYTES = 50, 25_000
PDF_GOAL, HTML_GOAL = 60, 200


def figures(folder: Path) -> Iterator[Figure]:
    """Pages in a second of a processor, against the goals themselves."""
    text = (novel(folder) / "0.txt").read_text("utf-8")
    given = os.environ.get("RAGJOB_BENCH_PDF")
    book = Path(given).read_bytes() if given else pdf(*_pages(text))
    yield _figure("PDF", lambda: _pdf_speed(book), PDF_GOAL)
    page = _html(text)
    yield _figure("HTML of 25 KB", lambda: _html_speed(page), HTML_GOAL)


def _figure(name: str, speed: Callable[[], float], goal: int) -> Figure:
    speed()  # starts the process that parses
    return compare(name, "pages/s a core", speed, lambda: goal, "the goal", runs=5, at_least=1)


def _pdf_speed(content: bytes) -> float:
    documents: list[Document] = []
    spent = seconds(lambda: documents.append(_reader("a.pdf").read(content)))
    return max(block.page or 0 for block in documents[0].blocks) / spent


def _html_speed(content: bytes) -> float:
    reader = _reader("a.html")
    return HTML_PAGES / seconds(lambda: [reader.read(content) for _ in range(HTML_PAGES)])


def seconds(work: Callable[[], object]) -> float:
    """Seconds of a processor that `work` takes here and in the processes below."""
    before = _spent()
    work()
    return _spent() - before


def _spent() -> float:
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children())]
    return sum(time.user + time.system for time in times)


def _reader(name: str) -> DocumentReader:
    reader = document_reader(name)
    assert isinstance(reader, DocumentReader)
    return reader


def _pages(text: str) -> Iterator[list[tuple[float, str]]]:
    """Pages of lines below a heading."""
    plain = " ".join(text.encode("ascii", "ignore").decode().split())
    for number in range(PDF_PAGES):
        page = plain[number * LINES * LINE_CHARS : (number + 1) * LINES * LINE_CHARS]
        lines = (page[at : at + LINE_CHARS] for at in range(0, len(page), LINE_CHARS))
        yield [(16, f"Chapter {number + 1}"), *((10, line) for line in lines)]


def _html(text: str) -> bytes:
    """A page of sections with a list and a table each, below a menu."""
    menu = "".join(f'<li><a href="/{number}">Page {number}</a></li>' for number in range(30))
    table = f"<table>{'<tr><td>Depot</td><td>42</td></tr>' * 10}</table>"
    sections = ""
    while len(sections) < HTML_BYTES - len(menu):
        at = len(sections)
        paragraphs = "".join(f"<p>{text[at + part : at + part + 400]}</p>" for part in range(0, 2000, 400))
        sections += f"<h2>Section {at}</h2>{paragraphs}<ul><li>first<li>second<li>third</ul>{table}"
    page = f"<nav><ul>{menu}</ul></nav><div><div><main>{sections}</main></div></div>"
    return f"<html><body>{page}</body></html>".encode()
