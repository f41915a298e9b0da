"""Loading and searching, against real Chroma servers."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from ragjob.errors import DataError, DependencyError
from ragjob.retrieval.chroma import collection, loading, search
from ragjob.retrieval.chroma import expected as names
from ragjob.retrieval.chroma.collection import connect, find
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.server import LocalChroma
from tests.faults import Answer, Connection, Fault, Forward, Request, proxy

pytestmark = pytest.mark.services

DIMENSION = 32
COLUMNS = ["chunk_id", "document_id", "uri", "chunk_index", "text", "embedding"]
INDEX = "an/index"


@pytest.fixture(scope="module")
def target(shared_chroma: str) -> Target:
    return Target(shared_chroma, 20)


@pytest.fixture
def expected(request: pytest.FixtureRequest) -> Expected:
    """2,000 rows, in a collection of the test's own."""
    return Expected(f"{request.node.name}-1", "1", "fingerprint", 2000, DIMENSION, INDEX)


def unit_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


VECTORS = unit_vectors(2000, 0)


def table(vectors: np.ndarray, text: str = "passage") -> pa.Table:
    numbers = range(len(vectors))
    columns = [
        [f"id-{number:04}" for number in numbers],
        ["document"] * len(vectors),
        [f"uri-{number}" for number in numbers],
        list(numbers),
        [f"{text} {number}" for number in numbers],
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    ]
    return pa.table(dict(zip(COLUMNS, columns, strict=True)))


def parts(vectors: np.ndarray = VECTORS) -> list[pa.Table]:
    """An index version's rows as they are stored: in tables of 256."""
    rows = table(vectors)
    return [rows.slice(start, 256) for start in range(0, rows.num_rows, 256)]


def ignore(_: int) -> None:
    pass


def loaded(target: Target, expected: Expected, vectors: np.ndarray = VECTORS) -> search.Collection:
    loading.load(target, expected, lambda: parts(vectors), ignore)
    return search.open_collection(target, expected)


def chroma(target: Target, expected: Expected) -> Any:
    """The collection as any other client of the server sees it."""
    return find(target, expected)


def server_process(target: Target) -> psutil.Process:
    port = target.url.rpartition(":")[2]
    [process] = [child for child in psutil.Process().children() if port in child.cmdline()]
    return process


def test_a_search_gives_the_exact_neighbours_best_first(target: Target, expected: Expected) -> None:
    questions = unit_vectors(100, 1)
    scores = questions @ VECTORS.T
    nearest = np.argsort(-scores, axis=1)[:, :5]

    hits = loaded(target, expected).search(questions, top_k=5, min_score=None, batch_size=7)

    assert [[hit.chunk_id for hit in row] for row in hits] == [[f"id-{n:04}" for n in row] for row in nearest]
    found = [[hit.score for hit in row] for row in hits]
    np.testing.assert_allclose(found, np.take_along_axis(scores, nearest, axis=1), atol=1e-5)
    assert (hits[0][0].uri, hits[0][0].text) == (f"uri-{nearest[0, 0]}", f"passage {nearest[0, 0]}")


def test_hits_of_equal_score_are_in_order_of_their_ids(target: Target, expected: Expected) -> None:
    twins = np.concatenate([VECTORS[:1]] * 5 + [VECTORS[5:]])

    [hits] = loaded(target, expected, twins).search(VECTORS[:1], top_k=3, min_score=None, batch_size=1)

    assert [hit.chunk_id for hit in hits] == ["id-0000", "id-0001", "id-0002"]


def test_more_candidates_are_read_only_where_the_last_ones_tie(target: Target, expected: Expected) -> None:
    loaded(target, expected, np.concatenate([VECTORS[:1]] * 5 + [VECTORS[5:]]))

    with proxy(target.url) as watched:
        collection = search.open_collection(Target(watched.url, 20), expected)
        for question in (VECTORS[:1], VECTORS[9:10]):
            collection.search(question, top_k=3, min_score=None, batch_size=1)

    asked = [json.loads(request.body) for request in watched.seen if request.target.endswith("/query")]
    assert [body["n_results"] for body in asked] == [4, 7, 4]


def test_hits_below_min_score_are_left_out(target: Target, expected: Expected) -> None:
    [hits] = loaded(target, expected).search(VECTORS[:1], top_k=5, min_score=0.99, batch_size=1)

    assert [hit.chunk_id for hit in hits] == ["id-0000"]


def test_an_index_without_chunks_is_loaded_and_finds_nothing(target: Target) -> None:
    expected = Expected("empty-1", "1", "fingerprint", 0, DIMENSION, INDEX)

    hits = loaded(target, expected, VECTORS[:0]).search(VECTORS[:2], top_k=3, min_score=None, batch_size=2)

    assert hits == [[], []]
    assert loading.is_loaded(target, expected)


def test_progress_counts_the_rows_that_are_in(target: Target, expected: Expected) -> None:
    told: list[int] = []

    loading.load(target, expected, parts, told.append)

    assert told[-1] == 2000
    assert told == sorted(told)


def load_and_die(target: Target, expected: Expected) -> None:
    loading.WRITE_ROWS = 512
    loading.load(target, expected, parts, lambda _: os.kill(os.getpid(), signal.SIGKILL))


def test_a_load_that_was_killed_is_not_searched_and_is_completed_by_the_next(
    target: Target, expected: Expected
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=load_and_die, args=(target, expected))
    process.start()
    process.join(30)
    process.close()

    assert chroma(target, expected).count() == 512
    assert not loading.is_loaded(target, expected)
    with pytest.raises(DataError, match=r"index\.collection: .* isn't loaded with all 2000 rows"):
        search.open_collection(target, expected)
    loaded(target, expected)
    assert loading.is_loaded(target, expected)


def test_two_loads_that_overlap_both_succeed(target: Target, expected: Expected) -> None:
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(loaded, target, expected) for _ in range(2)]

        for load in loads:
            load.result()
    assert loading.is_loaded(target, expected)


def test_a_collection_that_lost_rows_is_refused_until_a_load_repairs_it(target: Target, expected: Expected) -> None:
    loaded(target, expected)
    chroma(target, expected).delete(ids=["id-0003", "id-1999"])

    assert not loading.is_loaded(target, expected)
    with pytest.raises(DataError, match=r"index\.collection"):
        search.open_collection(target, expected)
    [hits] = loaded(target, expected).search(VECTORS[3:4], top_k=1, min_score=None, batch_size=1)
    assert hits[0].chunk_id == "id-0003"


def test_a_collection_with_rows_too_many_is_built_anew(target: Target, expected: Expected) -> None:
    loaded(target, expected)
    chroma(target, expected).add(ids=["stray"], embeddings=VECTORS[:1], documents=["stray"])

    assert not loading.is_loaded(target, expected)
    loaded(target, expected)
    assert loading.is_loaded(target, expected)


def test_a_collection_with_other_vectors_is_built_anew(target: Target, expected: Expected) -> None:
    loading.load(target, expected, lambda: parts(VECTORS[::-1].copy()), ignore)

    [hits] = loaded(target, expected).search(VECTORS[:1], top_k=1, min_score=None, batch_size=1)

    assert hits[0].chunk_id == "id-0000"


def test_a_torn_index_on_disk_is_not_loaded_and_is_built_anew(tmp_path: Path, expected: Expected) -> None:
    with LocalChroma(str(tmp_path)) as server:
        loaded(Target(server.url(), 20), expected)
    [index] = [file.parent for file in tmp_path.glob("*/data_level0.bin")]
    shutil.rmtree(index)

    with LocalChroma(str(tmp_path)) as server:
        target = Target(server.url(), 2)
        assert not loading.is_loaded(target, expected)
        loaded(target, expected)
        assert loading.is_loaded(target, expected)


@pytest.mark.parametrize(
    ("metric", "about"),
    [
        ("cosine", {"version": "1", "fingerprint": "another"}),
        ("cosine", {}),
        ("l2", {"version": "1", "fingerprint": "fingerprint", "count": 2000, "state": "ready"}),
    ],
)
def test_a_foreign_collection_is_refused_until_a_load_replaces_it(
    target: Target, metric: str, about: dict[str, Any]
) -> None:
    expected = Expected(f"foreign-{metric}-{len(about)}", "1", "fingerprint", 2000, DIMENSION, INDEX)
    api = connect(target, 0)
    api.create_collection(expected.name, configuration={"hnsw": {"space": metric}}, metadata=about or None)

    for refused in (loading.is_loaded, search.open_collection):
        with pytest.raises(DataError, match=r"index\.collection: .* isn't of this index.*: run `ragjob load`"):
            refused(target, expected)
    loaded(target, expected)
    assert loading.is_loaded(target, expected)


def test_two_servers_are_not_mixed_up(target: Target, expected: Expected) -> None:
    with LocalChroma(None) as server:
        loaded(target, expected)
        assert not loading.is_loaded(Target(server.url(), 20), expected)
        assert loading.is_loaded(target, expected)


def test_rows_that_do_not_fit_one_request_are_sent_in_several(target: Target) -> None:
    rows = table(VECTORS[:3], text="long passage " * 1_200_000)

    with proxy(target.url) as watched:
        loading.load(
            Target(watched.url, 20), Expected("long-1", "1", "fingerprint", 3, DIMENSION, INDEX), lambda: [rows], ignore
        )

    assert rows.nbytes > 40 * 2**20  # what the server refuses
    assert max(len(request.body) for request in watched.seen) < 40 * 2**20


@dataclass
class InFlight:
    """A harm that counts how many requests are under way at the same time."""

    now: int = 0
    most: int = 0
    lock: Any = field(default_factory=Lock)

    def __call__(self, request: Request, forward: Forward, connection: Connection) -> Answer:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        try:
            return forward(request)
        finally:
            with self.lock:
                self.now -= 1


def test_a_load_has_one_request_under_way_of_few_rows_and_bytes(
    target: Target, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "WRITE_ROWS", 600)
    in_flight = InFlight()
    with proxy(target.url, Fault(in_flight)) as watched:
        loading.load(Target(watched.url, 20), expected, parts, ignore)

    written = [request.body for request in watched.seen if request.target.endswith("/add")]
    assert in_flight.most == 1
    rows = [len(json.loads(body)["ids"]) for body in written]
    assert rows == [512, 512, 512, 464]
    assert max(map(len, written)) < 40 * 2**20


def test_rows_are_read_while_the_server_takes_those_before(
    target: Target, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "WRITE_ROWS", 800)
    read_ahead, in_time = Event(), []

    def batches() -> Iterator[pa.Table]:
        rows = table(VECTORS)
        yield rows.slice(0, 800)
        yield rows.slice(800, 600)
        read_ahead.set()
        yield rows.slice(1400)

    def hold(request: Request, forward: Forward, connection: Connection) -> Answer:
        in_time.append(read_ahead.wait(10))
        return forward(request)

    with proxy(target.url, Fault(hold, on="/add")) as watched:
        loading.load(Target(watched.url, 20), expected, batches, ignore)

    assert in_time == [True] * 3


def test_blocks_are_searched_beside_each_other(target: Target, expected: Expected) -> None:
    loaded(target, expected)
    in_flight = InFlight()
    with proxy(target.url, Fault(in_flight, on="/query")) as watched, ThreadPoolExecutor(4) as pool:
        collection = search.open_collection(Target(watched.url, 20), expected)
        beside = pool.map(lambda block: collection.search(block, 3, None, 64), np.split(VECTORS, 4))
        assert [hits for block in beside for hits in block] == collection.search(VECTORS, 3, None, 64)

    assert in_flight.most == 4


@pytest.mark.parametrize(
    ("count", "dimension", "message"),
    [(1999, DIMENSION, "has 2000 rows, its manifest says 1999"), (2000, 8, "aren't of the 8 dimensions")],
)
def test_rows_that_contradict_their_manifest_are_refused(
    target: Target, count: int, dimension: int, message: str
) -> None:
    expected = Expected(f"contradicted-{dimension}", "1", "fingerprint", count, dimension, INDEX)

    with pytest.raises(DataError, match=rf"index\.uri: .*{message}"):
        loading.load(target, expected, parts, ignore)
    assert not loading.is_loaded(target, expected)


def test_a_search_outlives_the_server_being_killed(expected: Expected) -> None:
    with LocalChroma(None) as server:
        target = Target(server.url(), 20)
        collection = loaded(target, expected)
        with ThreadPoolExecutor(1) as pool:
            searching = pool.submit(collection.search, VECTORS, top_k=1, min_score=None, batch_size=8)
            time.sleep(0.1)
            server_process(target).kill()
            assert not searching.done()
            hits = searching.result()

    assert [row[0].chunk_id for row in hits] == [f"id-{number:04}" for number in range(2000)]


def test_a_server_that_never_answers_ends_a_call_at_its_deadline(expected: Expected) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(DependencyError, match=r"chroma\.url: http://127.* or raise chroma\.timeout_s") as failure:
            loading.is_loaded(Target(url, 2), expected)

    assert 1.5 < time.monotonic() - start < 3
    assert "secret" not in str(failure.value)


def test_a_server_that_refuses_connections_ends_a_check_at_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    start = time.monotonic()

    with pytest.raises(DependencyError, match=r"chroma\.url: .*Connection refused"):
        collection.check(Target(url, 2))

    assert time.monotonic() - start < 3


def test_a_server_that_answers_passes_the_check(target: Target) -> None:
    collection.check(target)


def test_a_name_is_the_stem_and_the_version() -> None:
    assert names.collection_name("corpus", "0123abcd") == "corpus-0123abcd"
