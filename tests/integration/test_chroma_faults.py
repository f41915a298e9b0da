"""Chroma as a service that dies, stalls or holds something else: the same answers, or one line that says why not."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from ragjob.commands.serving import served
from ragjob.config import JobSettings
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.index import About, IndexLedger, current_version, set_current
from ragjob.ledger.passages import Passages
from ragjob.planning.identity import CommittedIndex, PendingIndex, identify_index
from ragjob.retrieval.base import Served
from ragjob.retrieval.chroma.collection import connect, find, is_complete
from ragjob.retrieval.chroma.expected import Expected, Target, collection_name
from ragjob.retrieval.chroma.loading import is_loaded, load
from ragjob.retrieval.chroma.search import open_collection
from ragjob.retrieval.dense.retriever import DenseRetriever
from ragjob.retrieval.settings import Retrieval
from tests.faults import Fault, Hold, proxy
from tests.integration.conftest import Job, assert_same, wait_until
from tests.passages import make_chunks
from tests.services import free_port

pytestmark = pytest.mark.services

STOPPED_S = 5  # chroma.timeout_s of jobs whose server stops for good
ENDING_S = 15  # what such a job may need beside that, to end Ray on a busy machine


@dataclass
class Chroma:
    """A Chroma server of its own, as another pod would be: not the job's child."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = Path(sys.executable).with_name("chroma")
        listen = ["--path", self.folder, "--host", "127.0.0.1", "--port", str(self.port)]
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen([program, "run", *listen], stdout=log, stderr=log, start_new_session=True)

    def send(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process
        self.process.wait()

    def restart(self) -> None:
        """SIGKILL it, and start it again with the same port and data."""
        self.kill()
        self.start()

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v2/heartbeat", timeout=5).is_success
        except httpx.TransportError:
            return False

    def rows(self, name: str) -> int:
        """Rows of a collection; 0 while there is none, or no server."""
        collections = f"{self.url}/api/v2/tenants/default_tenant/databases/default_database/collections"
        try:
            response = httpx.get(f"{collections}/{name}", timeout=30)
            counted = httpx.get(f"{collections}/{response.json().get('id')}/count", timeout=30)
            return int(counted.text) if counted.is_success else 0
        except httpx.TransportError:
            return 0


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[Chroma]:
    server = Chroma(tmp_path / "chroma", free_port())
    server.start()
    wait_until(server.answers)
    yield server
    server.kill()


@dataclass(frozen=True)
class Version:
    """A committed index version of random vectors, as it is served."""

    served: Served
    passages: Passages
    vectors: np.ndarray

    @property
    def expected(self) -> Expected:
        return self.served.expected

    def search(self, target: Target, questions: np.ndarray, top_k: int) -> list[list[str]]:
        """Ids of the chunks that a search finds."""
        settings = Retrieval(top_k=top_k, batch_size=64)
        retriever = DenseRetriever(open_collection(target, self.expected), self.passages, settings)
        hits_by_question = retriever.search(["?"] * len(questions), questions, [None] * len(questions))
        return [[hit.passage.chunk_id for hit in hits] for hits in hits_by_question]

    def assert_loaded(self, target: Target) -> None:
        """All is there, and each vector finds itself."""
        assert is_loaded(target, self.expected, self.passages)
        nearest_ids = self.search(target, self.vectors[::17], 1)
        assert nearest_ids == [[f"id-{n:06}"] for n in range(0, len(self.vectors), 17)]


def commit(job: Job, count: int, dimension: int = 384) -> Version:
    """Commit a version of `count` chunks for `job`, as if its corpus had given them."""
    folders = {section: {"uri": str(job.assignments[f"{section}.uri"])} for section in ("corpus", "index")}
    made = identify_index(JobSettings.model_validate(folders | {"chroma": {"url": "http://chroma"}}), "index")
    assert isinstance(made, PendingIndex)
    index = made.ledger
    vectors = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = make_chunks(
        [f"passage {number}" for number in range(count)],
        vectors,
        chunk_id=[f"id-{number:06}" for number in range(count)],
        document_id=[f"document-{number // 256}" for number in range(count)],
        chunk_index=range(count),
    )
    for start in range(0, count, 256):
        index.segment.write(rows.slice(start, 256))
    about = About(schema.digest(made.facts), made.facts, made.embedder.label, schema.LISTING.empty_table())
    manifest = index.commit(index.segment.survey(), about)
    set_current(index.uri, index.version)
    version = served(CommittedIndex(made.settings, made.embedder, index, manifest, []), Target("http://chroma", 60))
    return Version(version, version.files.open(), vectors)


def expected_of(index: Path) -> Expected:
    """What the collection of an index must hold."""
    version = str(current_version(str(index)))
    manifest = IndexLedger(str(index), version).manifest()
    assert manifest
    name = collection_name("corpus", version)
    return Expected(name, version, manifest.fingerprint, manifest.rows, manifest.dimension, str(index))


def assert_load_survives(job: Job, chroma: Chroma, version: Version, kills: list[int]) -> None:
    """Start `load`, kill the server each time so many rows are in, and see that all of them are in the end."""
    process = job.start("load", chroma__url=chroma.url)
    for rows in kills:
        wait_until(lambda rows=rows: chroma.rows(version.expected.name) >= rows, seconds=200)
        assert process.poll() is None
        chroma.restart()
    ended = job.end(process)
    assert (ended.code, ended.err) == (0, "")
    assert chroma.rows(version.expected.name) == version.expected.count
    version.assert_loaded(Target(chroma.url, 60))


def test_a_load_outlives_three_kills_of_its_server(job: Job, chroma: Chroma) -> None:
    assert_load_survives(job, chroma, commit(job, 6_000), kills=[512, 2_000, 4_000])


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_a_large_load_outlives_three_kills_of_its_server_at_random_moments(job: Job, chroma: Chroma, seed: int) -> None:
    kills = sorted(random.Random(seed).sample(range(28_000), 3))
    assert_load_survives(job, chroma, commit(job, 30_000), kills)


@pytest.mark.soak
def test_a_search_outlives_three_kills_of_its_server(job: Job, chroma: Chroma) -> None:
    version, target = commit(job, 3_000, dimension=32), Target(chroma.url, 60)  # few enough to be found exactly
    load(target, version.expected, version.passages, lambda _: None)
    collection = open_collection(target, version.expected)
    calm = list(collection.nearest(version.vectors, 3, 64))

    with ThreadPoolExecutor(1) as pool:
        searching = pool.submit(lambda: list(collection.nearest(np.tile(version.vectors, (3, 1)), 3, 16)))
        for _ in range(3):
            time.sleep(0.3)
            assert not searching.done()
            chroma.restart()
            wait_until(chroma.answers)

        assert searching.result() == calm * 3


@pytest.mark.soak
@pytest.mark.ray
def test_a_run_outlives_three_kills_of_its_server_in_mid_search(
    job: Job, index: Path, undisturbed: pa.Table, chroma: Chroma
) -> None:
    process = job.start("answer", index__uri=index, chroma__url=chroma.url)
    for parts in (1, 3, 5):
        wait_until(lambda parts=parts: len(job.staged) >= parts, seconds=200)
        assert process.poll() is None
        chroma.restart()
    ended = job.end(process)

    assert (ended.code, ended.err) == (0, "")
    assert chroma.rows(expected_of(index).name) == expected_of(index).count
    assert_same(job.answers(), undisturbed)


def assert_ends_with_3(job: Job, process: "subprocess.Popen[str]", url: str) -> None:
    """The server at `url` has stopped just now."""
    start = time.monotonic()
    ended = job.end(process)

    assert time.monotonic() - start < STOPPED_S + ENDING_S
    assert (ended.code, len(ended.err.splitlines())) == (DependencyError.exit_code, 1), ended.err
    assert f"chroma.url: {url}" in ended.err
    assert "chroma.timeout_s" in ended.err


def test_a_server_that_stops_for_good_ends_a_load_with_3_and_one_line(job: Job, chroma: Chroma) -> None:
    version = commit(job, 8_000)
    process = job.start("load", chroma__url=chroma.url, chroma__timeout_s=STOPPED_S)
    wait_until(lambda: chroma.rows(version.expected.name) >= 512)

    chroma.send(signal.SIGSTOP)
    assert_ends_with_3(job, process, chroma.url)


@pytest.mark.soak
@pytest.mark.ray
def test_a_server_that_stops_for_good_ends_a_run_with_3_and_one_line(job: Job, index: Path, chroma: Chroma) -> None:
    hold = Hold()
    with proxy(chroma.url, Fault(hold, on="/query$", every=5)) as way:
        process = job.start("answer", index__uri=index, chroma__url=way.url, chroma__timeout_s=STOPPED_S)
        assert hold.arrived.wait(200)

        chroma.send(signal.SIGSTOP)
        hold.released.set()
        assert_ends_with_3(job, process, way.url)


def test_a_torn_collection_is_rebuilt_by_load_without_ray_or_torch(job: Job, chroma: Chroma) -> None:
    version, target = commit(job, 3_000, dimension=32), Target(chroma.url, 60)
    load(target, version.expected, version.passages, lambda _: None)
    chroma.kill()
    [vectors] = [file.parent for file in chroma.folder.glob("*/data_level0.bin")]
    shutil.rmtree(vectors)
    chroma.start()
    wait_until(chroma.answers)

    assert not is_loaded(Target(chroma.url, 5), version.expected, version.passages)
    ended = job.light("load", chroma__url=chroma.url)
    assert (ended.code, ended.err, ended.heavy) == (0, "", {"chromadb"})
    version.assert_loaded(target)


@pytest.mark.soak
@pytest.mark.ray
def test_a_foreign_collection_is_found_before_a_prompt_is_searched_and_replaced_by_load(
    job: Job, index: Path, chroma: Chroma
) -> None:
    expected, target = expected_of(index), Target(chroma.url, 60)
    api: Any = connect(target, 0)
    api.create_collection(expected.name, metadata={"version": "of another program"})

    refused = job("answer", index__uri=index, chroma__url=chroma.url)
    assert (refused.code, len(refused.err.splitlines())) == (DataError.exit_code, 1), refused.err
    assert f"index.collection: {expected.name}" in refused.err
    assert job.staged == []
    ended = job.light("load", index__uri=index, chroma__url=chroma.url)
    assert (ended.code, ended.err, ended.heavy) == (0, "", {"chromadb"})
    assert is_complete(find(target, expected), expected)


@pytest.mark.soak
@pytest.mark.ray
def test_a_collection_that_lost_rows_is_loaded_again_before_a_prompt_is_searched(
    job: Job, index: Path, undisturbed: pa.Table, chroma: Chroma
) -> None:
    assert job("load", index__uri=index, chroma__url=chroma.url).code == 0
    collection: Any = find(Target(chroma.url, 60), expected_of(index))
    collection.delete(ids=collection.peek(5)["ids"])

    ended = job("answer", index__uri=index, chroma__url=chroma.url)

    assert (ended.code, ended.err) == (0, "")
    assert_same(job.answers(), undisturbed)
