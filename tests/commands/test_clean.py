"""What `clean` finds and removes, and what it never touches, on disk as on S3."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from ragjob import storage
from ragjob.commands import clean as module
from ragjob.commands.api import clean
from ragjob.commands.report import Leftover
from ragjob.config import JobSettings
from ragjob.errors import DataError, SettingsError
from ragjob.ledger.index import IndexLedger, current_version, set_current
from ragjob.ledger.run import RunLedger
from ragjob.retrieval.chroma import loading
from ragjob.retrieval.chroma.collection import connect
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.server import LocalChroma
from ragjob.storage import join
from ragjob.storage import settings as reached
from tests.conftest import files_below
from tests.ledger.test_index import ABOUT, FINE, chunks
from tests.ledger.test_run import COLUMNS, answers
from tests.passages import make_passages
from tests.storage.conftest import place, real_server, s3

__all__ = ["place", "real_server", "s3"]  # fixtures

MORE_THAN_A_PART = bytes(9 * 2**20)


@pytest.fixture
def settings(place: str, tmp_path: Path) -> JobSettings:
    """Settings that keep two versions."""
    index = {"uri": f"{place}/index", "cache": str(tmp_path / "cache")}
    places = {"index": index, "output": {"uri": f"{place}/out"}}
    return JobSettings.model_validate(places | {"s3": reached.current, "keep": {"versions": 2}})


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is eight days later, for `clean`."""
    monkeypatch.setattr(module, "_now", lambda: datetime.now(UTC) + timedelta(days=8))


def begin(settings: JobSettings, version: str) -> IndexLedger:
    """An index version that isn't committed."""
    index = IndexLedger(str(settings.index.uri), version)
    index.segment.take_up()
    index.segment.write(chunks({"a": FINE, version[-1]: FINE}))
    return index


def commit(settings: JobSettings, *versions: str) -> None:
    """Index versions, of which the last one is the newest and the current one."""
    for version in versions:
        index = begin(settings, version)
        index.commit(index.segment.survey(), ABOUT)
        set_current(str(settings.index.uri), version)


def stage(settings: JobSettings, run_id: str, version: str) -> RunLedger:
    """A run with a claim and a part."""
    run = RunLedger(str(settings.output.uri), run_id, "identity")
    run.claim(version)
    run.write(answers(0, 1))
    return run


def listing(settings: JobSettings) -> list[str]:
    """All that there is, by its path."""
    return [entry.path for entry in storage.list_files(str(settings.index.uri).removesuffix("/index"))]


def names(leftovers: list[Leftover]) -> list[tuple[str, str]]:
    """Kind and last part of the address."""
    return [(leftover.kind, leftover.address.rpartition("/")[2]) for leftover in leftovers]


def test_all_that_is_listed_is_removed_and_nothing_else(settings: JobSettings, later: None) -> None:
    commit(settings, "v1", "v2", "v3", "v4")
    begin(settings, "torn")
    stage(settings, "published", "v4").publish(2, COLUMNS)
    stage(settings, "idle", "v4")
    before = listing(settings)

    leftovers = clean(settings, remove=False)

    assert names(leftovers) == [
        ("staging", "idle"),
        ("staging", "published"),
        ("version", "torn"),
        ("version", "v1"),
        ("version", "v2"),
    ]
    assert listing(settings) == before
    assert clean(settings, remove=True) == leftovers
    folders = [f"index/{kind}/{version}/" for kind in ("segments", "versions") for version in ("torn", "v1", "v2")]
    gone = (*folders, "out/_staging/")
    assert listing(settings) == [path for path in before if not path.startswith(gone)]
    assert clean(settings, remove=True) == []


def test_what_this_node_keeps_of_a_version_goes_with_it(settings: JobSettings) -> None:
    commit(settings, "v1", "v2", "v3")
    cache = Path(settings.index.cache)
    for version in ("v1", "v2"):
        (cache / version).mkdir(parents=True)
        (cache / version / "vectors-1.npy").touch()
        (cache / f"{version}.lock").touch()
    clean(settings, remove=True)
    assert files_below(cache) == ["v1.lock", "v2.lock", "v2/vectors-1.npy"]


def test_a_folder_whose_name_is_none_of_ours_is_left_alone(settings: JobSettings, later: None) -> None:
    commit(settings, "v1")
    storage.put(join(str(settings.index.uri), "versions", "a b", "file"), b"")
    assert clean(settings, remove=True) == []


def test_sizes_are_those_of_the_files(settings: JobSettings, place: str) -> None:
    commit(settings, "v1", "v2", "v3")
    files = [file for kind in ("versions", "segments") for file in storage.list_files(f"{place}/index/{kind}/v1")]
    (leftover,) = clean(settings, remove=False)
    assert (leftover.size, leftover.reason) == (sum(file.size for file in files), "not among the newest 2")


def test_the_current_version_stays_however_old(settings: JobSettings) -> None:
    commit(settings, "v1", "v2", "v3", "v4")
    set_current(str(settings.index.uri), "v1")
    assert names(clean(settings, remove=True)) == [("version", "v2")]


def test_the_version_that_the_settings_name_stays(settings: JobSettings) -> None:
    commit(settings, "v1", "v2", "v3", "v4")
    index = settings.index.model_copy(update={"version": "v1"})
    assert names(clean(settings.model_copy(update={"index": index}), remove=True)) == [("version", "v2")]


def test_a_version_that_was_copied_counts_as_committed(settings: JobSettings, later: None) -> None:
    commit(settings, "v1")
    for entry in storage.list_files(join(str(settings.index.uri), "versions", "v1")):
        storage.put(join(str(settings.index.uri), "versions", "copy", entry.path), storage.read_bytes(entry.uri))
    assert clean(settings, remove=True) == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_version_that_an_unpublished_run_refers_to_stays_until_that_is_published(
    settings: JobSettings, later: None, version: str
) -> None:
    commit(settings, "v1")
    begin(settings, "v2")
    commit(settings, "v3", "v4")
    run = stage(settings, "r1", version)
    other = ({"v1", "v2"} - {version}).pop()
    assert names(clean(settings, remove=False)) == [("staging", "r1"), ("version", other)]
    run.publish(2, COLUMNS)
    run.sweep()
    assert names(clean(settings, remove=True)) == [("version", "v1"), ("version", "v2")]


def test_what_was_written_lately_stays(settings: JobSettings) -> None:
    commit(settings, "v1")
    begin(settings, "torn")
    stage(settings, "r1", "v1")
    assert clean(settings, remove=True) == []


def test_a_published_runs_staging_goes_at_once_and_its_answers_stay(settings: JobSettings) -> None:
    run = stage(settings, "r1", "v1")
    run.publish(2, COLUMNS)
    removed = clean(settings, remove=True)
    assert [(leftover.kind, leftover.reason) for leftover in removed] == [("staging", "its run is published")]
    assert listing(settings) == ["out/r1/_manifest.json", "out/r1/answers.parquet"]


def take_up_staging(settings: JobSettings) -> None:
    stage(settings, "r1", "v1")


def take_up_torn(settings: JobSettings) -> None:
    begin(settings, "torn")


def claim_torn(settings: JobSettings) -> None:
    stage(settings, "r1", "torn")


def commit_torn(settings: JobSettings) -> None:
    index = begin(settings, "torn")
    index.commit(index.segment.survey(), ABOUT)


def claim_v1(settings: JobSettings) -> None:
    stage(settings, "r1", "v1")


def make_v1_current(settings: JobSettings) -> None:
    set_current(str(settings.index.uri), "v1")


def stage_r1(settings: JobSettings) -> None:
    stage(settings, "r1", "v3")


def begin_torn(settings: JobSettings) -> None:
    begin(settings, "torn")


def commit_three(settings: JobSettings) -> None:
    commit(settings, "v1", "v2", "v3")


@pytest.mark.parametrize(
    ("left", "days", "taken_up"),
    [
        (stage_r1, 8, take_up_staging),
        (begin_torn, 8, take_up_torn),
        (begin_torn, 8, claim_torn),
        (begin_torn, 8, commit_torn),
        (commit_three, 0, claim_v1),
        (commit_three, 0, make_v1_current),
    ],
)
def test_what_a_job_takes_up_after_it_was_found_stays(settings, monkeypatch, left, days, taken_up) -> None:  # type: ignore[no-untyped-def]
    left(settings)
    monkeypatch.setattr(module, "_now", lambda: datetime.now(UTC) + timedelta(days=days))
    (leftover,) = clean(settings, remove=False)
    monkeypatch.undo()
    taken_up(settings)
    before = listing(settings)
    assert leftover.remove() is False
    assert listing(settings) == before


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_version_half_removed_is_taken_for_no_whole_one_and_made_again(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(settings, "v1", "v2", "v3")
    monkeypatch.setattr(storage, "delete_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clean(settings, remove=True)
    monkeypatch.undo()
    index = IndexLedger(str(settings.index.uri), "v1")
    assert index.manifest() is None
    assert index.commit(index.segment.survey(), ABOUT).chunks == 4


def test_a_run_half_removed_still_has_its_claim(
    settings: JobSettings, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(settings, "r1", "v1")
    monkeypatch.setattr(storage, "delete_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clean(settings, remove=True)
    assert listing(settings) == ["out/_staging/r1/identity.json"]


@pytest.mark.usefixtures("real_server")
@pytest.mark.parametrize("name", ["out/r1/answers.parquet", "out/_staging/r1/part-1", "index/segments/torn/part-1"])
def test_a_write_that_never_ended_is_removed(settings: JobSettings, place: str, later: None, name: str) -> None:
    stage(settings, "r1", "v1")
    begin(settings, "torn")

    def write(file: object) -> None:
        file.write(MORE_THAN_A_PART)  # type: ignore[attr-defined]
        clean(settings, remove=True)

    with pytest.raises(Exception, match=r"run the job again$"):
        storage.publish(join(place, name), write)
    assert (listing(settings), storage.list_unfinished(place)) == ([], [])


def test_a_write_that_never_ended_is_listed_by_what_it_was_for(settings: JobSettings, place: str, later: None) -> None:
    uri, leftovers = join(place, "out", "r1", "answers.parquet"), []
    storage.publish(uri, lambda file: [file.write(MORE_THAN_A_PART), leftovers.extend(clean(settings, remove=False))])
    assert [(leftover.kind, leftover.address, leftover.size) for leftover in leftovers] == [("upload", uri, None)]


@pytest.mark.usefixtures("real_server")
def test_a_write_that_goes_on_stays(settings: JobSettings, place: str) -> None:
    uri = join(place, "out", "r1", "answers.parquet")
    assert storage.publish(uri, lambda file: [file.write(MORE_THAN_A_PART), clean(settings, remove=True)])


def test_without_index_uri_only_what_lies_below_output_uri_goes(settings: JobSettings, later: None) -> None:
    commit(settings, "v1", "v2", "v3")
    stage(settings, "r1", "v3")
    index = settings.index.model_copy(update={"uri": None})
    assert names(clean(settings.model_copy(update={"index": index}), remove=True)) == [("staging", "r1")]


def test_without_output_uri_committed_versions_stay_since_a_run_may_need_them(
    settings: JobSettings, later: None, caplog: pytest.LogCaptureFixture
) -> None:
    commit(settings, "v1", "v2", "v3")
    begin(settings, "torn")
    output = settings.output.model_copy(update={"uri": None})
    assert names(clean(settings.model_copy(update={"output": output}), remove=True)) == [("version", "torn")]
    assert caplog.messages == ["output.uri isn't set: versions beyond keep.versions stay, since runs may need them"]


def test_places_that_arent_there_hold_nothing_to_remove(settings: JobSettings) -> None:
    assert clean(settings, remove=True) == []


def test_neither_place_set_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"^index.uri: `clean` needs it or output.uri; set them in job.yaml"):
        clean(JobSettings(), remove=False)


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"identity": "identity"}'])
def test_a_claim_that_names_no_version_ends_it_before_anything_is_removed(
    settings: JobSettings, later: None, damaged: str
) -> None:
    commit(settings, "v1", "v2", "v3")
    storage.put(join(str(settings.output.uri), "_staging", "r1", "identity.json"), damaged.encode())
    before = listing(settings)
    with pytest.raises(DataError, match=r"^run_id: .*/r1/identity.json has no index_version; remove that folder"):
        clean(settings, remove=True)
    assert listing(settings) == before


@pytest.fixture(scope="module")
def target(shared_chroma: str) -> Target:
    return Target(shared_chroma, 20)


def load(target: Target, stem: str, version: str, index: str) -> None:
    """A collection of four vectors."""
    expected = Expected(f"{stem}-{version}", version, "f", 4, 4, index)
    loading.load(target, expected, make_passages(np.eye(4, dtype=np.float32)), lambda _: None)


def collections(target: Target) -> list[str]:
    """Names of all collections on the server."""
    return sorted(model.name for model in connect(target, 0).list_collections())


@pytest.fixture
def loaded(settings: JobSettings, target: Target) -> JobSettings:
    """Versions v1 to v3 committed and loaded, v0 loaded and gone; others' collections beside them."""
    stem, uri = f"stem{uuid4().hex}", str(settings.index.uri)
    commit(settings, "v1", "v2", "v3")
    for version in ("v0", "v1", "v2", "v3"):
        load(target, stem, version, uri)
    load(target, stem, "v00", "another/index")
    load(target, f"{stem}-other", "v0", uri)
    connect(target, 0).create_collection(f"{stem}-foreign", metadata={"version": "foreign"})
    index = settings.index.model_copy(update={"collection": stem})
    chroma = settings.chroma.model_copy(update={"url": target.url})
    return settings.model_copy(update={"index": index, "chroma": chroma})


@pytest.mark.services
def test_collections_of_versions_that_go_or_have_gone_are_removed_and_no_others(
    loaded: JobSettings, target: Target
) -> None:
    stem, before = loaded.index.collection, collections(target)
    removed = clean(loaded, remove=True)
    assert [(leftover.kind, leftover.address, leftover.size) for leftover in removed[:2]] == [
        ("collection", f"{stem}-v0", 4),
        ("collection", f"{stem}-v1", 4),
    ]
    assert names(removed[2:]) == [("version", "v1")]
    assert collections(target) == [name for name in before if name not in (f"{stem}-v0", f"{stem}-v1")]
    assert clean(loaded, remove=True) == []


@pytest.mark.services
def test_the_collection_of_a_claimed_version_stays(loaded: JobSettings, target: Target) -> None:
    stage(loaded, "r1", "v1")
    before = collections(target)
    removed = clean(loaded, remove=True)
    assert [leftover.address for leftover in removed] == [f"{loaded.index.collection}-v0"]
    assert collections(target) == [name for name in before if name != f"{loaded.index.collection}-v0"]


@pytest.mark.services
def test_a_version_claimed_after_it_was_found_keeps_its_collection(loaded: JobSettings, target: Target) -> None:
    leftovers = clean(loaded, remove=False)
    stage(loaded, "r1", "v1")
    assert [leftover.remove() for leftover in leftovers] == [True, False, False]
    assert f"{loaded.index.collection}-v1" in collections(target)


@pytest.mark.services
def test_collections_under_chroma_path_are_removed(settings: JobSettings, tmp_path: Path) -> None:
    path = tmp_path / "chroma"
    with LocalChroma(str(path)) as server:
        load(Target(server.url(), 20), "corpus", "v0", str(settings.index.uri))
    chroma = settings.chroma.model_copy(update={"path": str(path)})
    removed = clean(settings.model_copy(update={"chroma": chroma}), remove=True)
    assert names(removed) == [("collection", "corpus-v0")]
    assert clean(settings.model_copy(update={"chroma": chroma}), remove=True) == []


def test_a_folder_for_chroma_that_isnt_there_isnt_made(settings: JobSettings, tmp_path: Path) -> None:
    chroma = settings.chroma.model_copy(update={"path": str(tmp_path / "chroma")})
    clean(settings.model_copy(update={"chroma": chroma}), remove=True)
    assert not (tmp_path / "chroma").exists()


def command(tmp_path: Path, *more: str) -> str:
    places = [f"index.uri={tmp_path}/index", f"output.uri={tmp_path}/out", "keep.versions=2"]
    sets = [part for assignment in places for part in ("--set", assignment)]
    run = [sys.executable, "-m", "ragjob", "clean", *sets, *more]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


def test_the_command_lists_and_with_yes_removes(tmp_path: Path) -> None:
    places = {"index": {"uri": f"{tmp_path}/index"}, "output": {"uri": f"{tmp_path}/out"}}
    commit(JobSettings.model_validate(places), "v1", "v2", "v3")
    listed = command(tmp_path).splitlines()
    assert listed[0].startswith("version ")
    assert listed[0].endswith(f" kB  {tmp_path}/index/versions/v1: not among the newest 2")
    assert listed[1:] == ["1 can be removed; `ragjob clean --yes` removes them"]
    assert command(tmp_path, "--yes").splitlines() == [listed[0], "1 removed"]
    assert command(tmp_path).splitlines() == ["0 can be removed"]
    assert current_version(f"{tmp_path}/index") == "v3"
