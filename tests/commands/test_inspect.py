"""`inspect` on files that lie on disk."""

import gzip
import json
from pathlib import Path

import pytest

from ragjob.commands.inspect import Inspect, InspectedChunk, InspectedDocument, Inspection
from ragjob.config import JobSettings, load_settings
from ragjob.errors import DataError, RagjobError, SettingsError
from tests.forks import ragjob

GUIDE = (
    "---\ntitle: Night trams\nlines: 4\n---\n"
    "# Fares\n\nA ticket costs two pence.\n\n## Children\n\nThey ride free of charge.\n"
)
FARES = "text,name,id\nA ticket costs two pence.,Fares,a\n,Nothing,b\nThe depot holds forty cars.,Depot,c\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guide.md").write_text(GUIDE)
    (tmp_path / "fares.csv").write_text(FARES)
    (tmp_path / "torn.md").write_bytes(b"caf\xe9")
    (tmp_path / "picture.png").write_bytes(b"")
    return tmp_path


def settings(minilm: str, **more: object) -> JobSettings:
    given = {"embed.model": minilm, "chunk.size": 12, "chunk.overlap": 0} | more
    return load_settings(None, [f"{name}={value}" for name, value in given.items()])


def inspect(file: Path, settings: JobSettings, rows: int = 3) -> Inspection:
    return Inspect.of(settings, str(file), rows).execute()


def test_a_files_title_metadata_blocks_and_chunks_are_shown_as_an_index_has_them(folder: Path, minilm: str) -> None:
    (document,) = inspect(folder / "guide.md", settings(minilm)).documents
    assert (document.document_id, document.title) == ("guide.md", "Night trams")
    assert document.metadata == {"path": "guide.md", "size": len(GUIDE), "lines": 4}
    assert [(block.kind, block.level) for block in document.blocks] == [
        ("heading", 1),
        ("prose", 0),
        ("heading", 2),
        ("prose", 0),
    ]
    assert document.chunks == [
        InspectedChunk(0, None, "Fares", "Night trams", 9, "# Fares\n\nA ticket costs two pence.", None),
        InspectedChunk(
            1, None, "Fares > Children", "Night trams > Fares", 9, "## Children\n\nThey ride free of charge.", None
        ),
    ]


def test_the_first_rows_of_a_table_are_shown_with_what_fails_of_them(folder: Path, minilm: str) -> None:
    of_table = settings(minilm, **{"corpus.id_column": "id", "corpus.title_column": "name"})
    inspection = inspect(folder / "fares.csv", of_table, rows=2)
    assert inspection.rows == 3
    assert [(document.document_id, document.title) for document in inspection.documents] == [
        ("a", "Fares"),
        ("b", "Nothing"),
    ]
    assert [chunk.error for document in inspection.documents for chunk in document.chunks] == [None, "text is blank"]


def test_as_many_rows_of_a_packed_table_are_shown_as_asked_for(folder: Path, minilm: str) -> None:
    rows = "\n".join(json.dumps({"text": f"Tram {number} leaves. {'x ' * 500}"}) for number in range(8))
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    assert len(inspect(folder / "packed.jsonl.gz", settings(minilm), 5).documents) == 5


def test_a_file_that_cant_be_read_shows_the_error_that_an_index_records(folder: Path, minilm: str) -> None:
    (document,) = inspect(folder / "torn.md", settings(minilm)).documents
    assert isinstance(document, InspectedDocument)
    assert [chunk.error for chunk in document.chunks] == ["file isn't UTF-8: byte 3 is wrong; save it as UTF-8"]


@pytest.mark.parametrize(
    ("file", "more", "kind", "error"),
    [
        ("none.md", {}, DataError, "FILE: .*none.md: nothing there; name an existing file, folder or glob"),
        ("picture.png", {}, DataError, "FILE: .* no reader for this extension: .*"),
        (".", {}, SettingsError, "FILE: .* stands for 3 files; name one of them"),
        ("fares.csv", {"corpus.text_column": "body"}, DataError, "corpus.text_column: .* has no column 'body'; .*"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(
    folder: Path, minilm: str, file: str, more: dict[str, object], kind: type[RagjobError], error: str
) -> None:
    with pytest.raises(kind, match=f"^{error}$"):
        inspect(folder / file, settings(minilm, **more))


def test_the_command_prints_chunks_and_takes_neither_ray_nor_torch_nor_chroma(folder: Path, minilm: str) -> None:
    ended = ragjob("inspect", "guide.md", "--set", f"embed.model={minilm}", folder=folder)
    assert (ended.code, ended.err, ended.heavy) == (0, "", set())
    assert "guide.md: 1 document\n" in ended.out
    assert "  title     Night trams\n  metadata  path = " in ended.out
    assert "  heading 2 ## Children\n" in ended.out
    assert "  chunk 0, 18 tokens\n    heading: Fares\n    context: Night trams\n    # Fares A ticket" in ended.out


def test_the_command_shows_whole_texts_on_demand_and_rows_of_a_table(folder: Path, minilm: str) -> None:
    (folder / "long.jsonl").write_text(json.dumps({"text": "The tram rolls on.\n" * 40}) + "\n" + '{"text": "x"}\n')
    arguments = ("inspect", "long.jsonl", "--rows", "1", "--set", f"embed.model={minilm}")
    assert "long.jsonl: 2 documents, the first 1\n" in ragjob(*arguments, folder=folder).out
    assert ragjob(*arguments, folder=folder).out.count("rolls on") < 20
    assert ragjob(*arguments, "--full", folder=folder).out.count("    The tram rolls on.\n") >= 40


def test_the_command_prints_json_alone_for_programs(folder: Path, minilm: str) -> None:
    ended = ragjob("inspect", "guide.md", "--json", "--set", f"embed.model={minilm}", folder=folder)
    (document,) = json.loads(ended.out)["documents"]
    assert (document["title"], len(document["blocks"]), document["chunks"][0]["tokens"]) == ("Night trams", 4, 18)
