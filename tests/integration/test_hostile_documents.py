"""Documents made to take a job down: each is an error of its own, or is read, and takes little memory."""

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from benchmarks.scale import held_together
from tests.documents.readers.documents import archive
from tests.documents.readers.pdfs import PASSWORD, loop, page_bomb, pdf
from tests.integration.conftest import Job, make_job
from tests.mixed import write_corpus

pytestmark = [pytest.mark.ray, pytest.mark.services, pytest.mark.soak, pytest.mark.timeout(900)]

MOST_MB = 1000  # above the same job without the document
LOOK_S = 0.2
LINE = [(10.0, "The line opened in 1931.")]


def zip_bomb() -> bytes:
    """Unpacks to a thousand times its size."""
    return archive({"[Content_Types].xml": "<Types/>", "word/document.xml": " " * 1_000_000_000})


def empty_rows() -> bytes:
    """A workbook with a word, and a million rows below it that are empty."""
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    sheet = f'<worksheet xmlns="{main}"><sheetData><row r="1"><c t="inlineStr"><is><t>Depot</t></is></c></row>'
    rows = "".join(f'<row r="{number}"/>' for number in range(2, 1_000_000))
    return archive(
        {
            "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="a" '
            f'Type="{relation}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>'
            '<sheet name="Rows" sheetId="1" r:id="a"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="a" '
            f'Type="{relation}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
            "xl/worksheets/sheet1.xml": sheet + rows + "</sheetData></worksheet>",
        }
    )


# Each with its error, or none if it is read.
HOSTILE: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "zip-bomb.docx": (zip_bomb, "unpack to more than"),
    "loop.pdf": (loop, "file is damaged"),
    "cut.pdf": (lambda: pdf(LINE)[:-100], "file is cut short"),
    "encrypted.pdf": (lambda: pdf(LINE, trailer=PASSWORD), "file has a password"),
    "page-bomb.pdf": (page_bomb, "its parser crashed"),
    "pages.pdf": (lambda: pdf(*[LINE] * 10_001), "more than 10,000 pages"),
    "as-many-as-allowed.pdf": (lambda: pdf(*[LINE] * 10_000), None),
    "empty-rows.xlsx": (empty_rows, None),
    "deep.html": (lambda: b"<div>" * 10_000 + b"deep", "nested more than 512 deep"),
}


def index(folder: Path, **files: bytes) -> tuple[Job, float]:
    """Index a corpus of all formats and these files, and watch the MB that all processes hold together."""
    job = make_job(folder)
    (folder / "mixed").mkdir()
    write_corpus(folder / "mixed")
    for name, content in files.items():
        (folder / "mixed" / name).write_bytes(content)
    job.assignments.update({"corpus.uri": folder / "mixed", "errors.max_rate": 0.5})
    process = job.start("index")
    most = 0.0
    while process.poll() is None:
        with suppress(psutil.Error):
            most = max(most, held_together(psutil.Process(process.pid)))
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
    ended = job.end(process)
    assert (ended.code, ended.err) == (0, ""), ended.out
    return job, most


def errors(job: Job) -> dict[str, str | None]:
    """The error of each document."""
    (file,) = (job.folder / "index").glob("versions/*/documents.parquet")
    table = pq.read_table(file, columns=["document_id", "error"])
    return dict(zip(table["document_id"].to_pylist(), table["error"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str | None], float]:
    job, most = index(tmp_path_factory.mktemp("harmless"))
    return errors(job), most


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_its_own_error_and_takes_little_memory(
    name: str, harmless: tuple[dict[str, str | None], float], tmp_path: Path
) -> None:
    make, error = HOSTILE[name]
    job, most = index(tmp_path, **{name: make()})
    of_all = errors(job)
    said = of_all.pop(name)
    others, usual = harmless
    assert of_all == others
    assert (said is None) == (error is None)
    assert (error or "") in (said or "")
    assert most < usual + MOST_MB
