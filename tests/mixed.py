"""A corpus with a document of each format, and thirty questions on facts spread over their pages, tables and headings.

The files are written by hand or by libraries other than those that read them, where there is one.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import docx
import pptx
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter

from tests.documents.readers.documents import archive
from tests.documents.readers.pdfs import pdf


@dataclass(frozen=True)
class Fact:
    """A question, words of the passage that answers it, and what is to be said of where that stands."""

    question: str
    words: str
    document: str
    title: str | None = None
    page: int | None = None


NOTES = """The ferry to Holm Island leaves from pier nine.

Lost umbrellas are kept for six weeks in the office below the clock tower.
"""
GUIDE = """---
title: Driver's guide
---
# Starting
## Brakes
Test the magnetic brake at walking speed before the first stop.
## Sand
Fill the sandbox when less than a third is left.
# Weather

| Wind | Rule |
| --- | --- |
| above 90 km/h | The bridge is closed to trams |
"""
PAGE = """<html><head><title>Fares and passes</title></head><body><nav><a href="/">Home</a></nav><main>
<h1>Fares and passes</h1><h2>Children</h2><p>Children below seven years travel without a ticket.</p>
<h2>Dogs</h2><ul><li>A dog on a lead needs a half ticket.</li><li>Guide dogs travel free.</li></ul>
<h2>Passes</h2><table><tr><th>Pass</th><th>Price</th></tr><tr><td>Monthly pass of zone two</td><td>58 crowns</td></tr>
</table></main></body></html>"""
BOOK = {
    "META-INF/container.xml": """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">
<rootfiles><rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>""",
    "book.opf": """<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A history of the trams</dc:title></metadata>
<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>
<item id="b" href="b.xhtml" media-type="application/xhtml+xml"/></manifest>
<spine><itemref idref="a"/><itemref idref="b"/></spine></package>""",
    "a.xhtml": "<html><body><h1>Horses</h1><p>Grey horses from Jutland pulled the first cars.</p></body></html>",
    "b.xhtml": "<html><body><h1>Electricity</h1><p>The power station at Svan Street lit in 1899.</p></body></html>",
}
ROWS = [
    ("Stop names", "The stop Three Herons was called Tanner's Gate until 1952."),
    ("Heating", "Cars are heated to fourteen degrees by waste heat of the resistors."),
    ("Uniforms", "Conductors wear a bottle green cap with a silver wheel."),
    ("Bells", "The bell is rung twice before a car starts backwards."),
]
FACTS = [
    Fact("Where does the ferry to Holm Island leave from?", "pier nine", "notes.txt"),
    Fact("How long are lost umbrellas kept?", "six weeks", "notes.txt"),
    Fact("When is the magnetic brake tested?", "walking speed", "guide.md", "Driver's guide"),
    Fact("When is the sandbox filled?", "a third", "guide.md", "Driver's guide"),
    Fact("What happens to the bridge when the wind is strong?", "closed to trams", "guide.md", "Driver's guide"),
    Fact("Do children below seven need a ticket?", "without a ticket", "fares.html", "Fares and passes"),
    Fact("What ticket does a dog need?", "half ticket", "fares.html", "Fares and passes"),
    Fact("What does a monthly pass of zone two cost?", "58 crowns", "fares.html", "Fares and passes"),
    Fact("How many passengers were carried last year?", "eleven million", "report.pdf", "Annual report", 1),
    Fact("Which line was delayed by ice?", "line six", "report.pdf", "Annual report", 2),
    Fact("What did the new rails weigh?", "420 tonnes", "report.pdf", "Annual report", 3),
    Fact("Who chaired the board?", "Ingrid Solheim", "report.pdf", "Annual report", 3),
    Fact("What is the width of a parking track?", "3.6 metres", "works.docx", "Works manual"),
    Fact("How many cars does the depot Amager hold?", "Amager", "works.docx", "Works manual"),
    Fact("What colour are the hazard lamps?", "amber", "works.docx", "Works manual"),
    Fact("Which oil goes into the gearbox?", "SAE 90", "works.docx", "Works manual"),
    Fact("What is the aim of the night network?", "every thirty minutes", "plans.pptx", "Plans for 2030", 1),
    Fact("Who pays for the night network?", "lottery", "plans.pptx", "Plans for 2030", 1),
    Fact("What will the tunnel under the river cost?", "88 million", "plans.pptx", "Plans for 2030", 2),
    Fact("Where will the solar roof be built?", "Frihavn workshop", "plans.pptx", "Plans for 2030", 3),
    Fact("In which year was car 211 built?", "1931", "fleet.xlsx", "Fleet list", 1),
    Fact("Who built car 305?", "Scandia", "fleet.xlsx", "Fleet list", 1),
    Fact("How many seats has the bus Falcon?", "44", "fleet.xlsx", "Fleet list", 2),
    Fact("What fuel does the bus Heron use?", "biogas", "fleet.xlsx", "Fleet list", 2),
    Fact("What animals pulled the first cars?", "Grey horses", "history.epub", "A history of the trams"),
    Fact("When did the power station at Svan Street begin?", "1899", "history.epub", "A history of the trams"),
    Fact("What was the stop Three Herons called before?", "Tanner's Gate", "rows.jsonl#0", "Stop names"),
    Fact("How warm are the cars heated?", "fourteen degrees", "rows.json#0", "Heating"),
    Fact("What cap do conductors wear?", "bottle green", "rows.csv#0", "Uniforms"),
    Fact("How often is the bell rung before going backwards?", "rung twice", "rows.parquet#0", "Bells"),
]


def write_corpus(folder: Path) -> None:
    """The documents, below a folder that is there."""
    files = {"notes.txt": NOTES, "guide.md": GUIDE, "fares.html": PAGE}
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    makers = {"report.pdf": _report, "works.docx": _works, "plans.pptx": _plans, "fleet.xlsx": _fleet}
    for name, make in makers.items():
        (folder / name).write_bytes(make())
    (folder / "history.epub").write_bytes(archive(BOOK))
    rows = [{"title": title, "text": text} for title, text in ROWS]
    (folder / "rows.jsonl").write_text(json.dumps(rows[0]))
    (folder / "rows.json").write_text(json.dumps([rows[1]], indent=2))
    with (folder / "rows.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["title", "text"])
        table.writeheader()
        table.writerow(rows[2])
    pq.write_table(pa.Table.from_pylist(rows[3:]), folder / "rows.parquet")


def _report() -> bytes:
    pages = [
        [(16.0, "Passengers"), (10.0, "The trams carried eleven million passengers last year, more than ever.")],
        [(16.0, "Winter"), (10.0, "Ice on the wires delayed line six on nine mornings in January.")],
        [
            (16.0, "Track"),
            (10.0, "The new rails in Castle Street weigh 420 tonnes in all."),
            (10.0, " "),
            (16.0, "Board"),
            (10.0, "The board was chaired by Ingrid Solheim."),
        ],
    ]
    return pdf(*pages, info="/Title (Annual report)")


def _works() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Works manual"
    document.add_heading("Depots", 1)
    document.add_paragraph("A parking track is 3.6 metres wide.")
    table = document.add_table(3, 2)
    for cell, text in zip(table._cells, ["Depot", "Cars", "Nordhavn", "42", "Amager", "17"], strict=True):
        cell.text = text
    document.add_heading("Maintenance", 1)
    document.add_paragraph("Hazard lamps are amber, and are replaced in pairs.", style="List Bullet")
    document.add_paragraph("The gearbox takes oil of the grade SAE 90.", style="List Bullet")
    return _saved(document)


def _plans() -> bytes:
    presentation = pptx.Presentation()
    presentation.core_properties.title = "Plans for 2030"
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Night network"
    first.placeholders[1].text = "A tram every thirty minutes on all lines of the night network."
    first.notes_slide.notes_text_frame.text = "The night network is paid for by the lottery."
    second = presentation.slides.add_slide(presentation.slide_layouts[5])
    second.shapes.title.text = "Costs"
    table = second.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for cell, text in zip(table.iter_cells(), ["Work", "Cost", "Tunnel under the river", "88 million"], strict=True):
        cell.text = text
    third = presentation.slides.add_slide(presentation.slide_layouts[1])
    third.shapes.title.text = "Energy"
    third.placeholders[1].text = "The solar roof will be built on the Frihavn workshop."
    return _saved(presentation)


def _fleet() -> bytes:
    content = io.BytesIO()
    book = xlsxwriter.Workbook(content)
    book.set_properties({"title": "Fleet list"})
    cars = [["Car", "Built", "Builder"], [211, 1931, "Frichs"], [305, 1956, "Scandia"]]
    buses = [["Bus", "Seats", "Fuel"], ["Falcon", 44, "diesel"], ["Heron", 38, "biogas"]]
    for name, rows in {"Cars": cars, "Buses": buses}.items():
        sheet = book.add_worksheet(name)
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
    book.close()
    return content.getvalue()


def _saved(document: "docx.document.Document | pptx.presentation.Presentation") -> bytes:
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()
