"""Loading and searching, against real Chroma servers."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import psutil
import pytest

from ragjob.errors import DataError, DependencyError
from ragjob.ledger.derived import SegmentFiles, derive
from ragjob.ledger.passages import Passages
from ragjob.ledger.segment import SegmentLedger
from ragjob.retrieval.base import Hit
from ragjob.retrieval.chroma import collection, loading, search
from ragjob.retrieval.chroma import expected as names
from ragjob.retrieval.chroma.collection import connect, find
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.server import LocalChroma
from ragjob.retrieval.dense.retriever import DenseRetriever
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import condition_of
from tests.faults import Answer, Connection, Fault, Forward, Request, proxy
from tests.passages import make_chunks, make_passages, row_id

pytestmark = pytest.mark.services

DIMENSION = 32
INDEX = "an/index"


@pytest.fixture(scope="module")
def target(shared_chroma: str) -> Target:
    return Target(shared_chroma, 20)


@pytest.fixture
def expected(request: pytest.FixtureRequest) -> Expected:
    """2,000 rows, in a collection of the test's own."""
    name = request.node.name.replace("[", "-").replace("]", "")
    return Expected(f"{name}-1", "1", "fingerprint", 2000, DIMENSION, INDEX)


def unit_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


VECTORS = unit_vectors(2000, 0)


PASSAGES = make_passages(VECTORS)


def ignore(_: int) -> None:
    pass


@dataclass
class Loaded:
    """A collection that was loaded, and its passages."""

    collection: search.Collection
    passages: Passages

    def search(self, vectors: np.ndarray, top_k: int, **settings: Any) -> list[list[Hit]]:
        retriever = DenseRetriever(self.collection, self.passages, Retrieval(top_k=top_k, **settings))
        return retriever.search(["?"] * len(vectors), vectors, [None] * len(vectors))


def loaded(target: Target, expected: Expected, passages: Passages = PASSAGES) -> Loaded:
    loading.load(target, expected, passages, ignore)
    return Loaded(search.open_collection(target, expected), passages)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.passage.chunk_id for hit in hits]


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

    hits = loaded(target, expected).search(questions, top_k=5, batch_size=7)

    assert [ids(row) for row in hits] == [[f"id-{n:04}" for n in row] for row in nearest]
    hit_scores = [[hit.score for hit in row] for row in hits]
    np.testing.assert_allclose(hit_scores, np.take_along_axis(scores, nearest, axis=1), atol=2e-4)
    assert hits[0][0].passage[2:4] == (f"uri-{nearest[0, 0]}", f"passage {nearest[0, 0]}")


TWINS = make_passages(np.concatenate([VECTORS[:1]] * 5 + [VECTORS[5:]]))


def test_hits_of_equal_similarity_are_in_order_of_their_ids(target: Target, expected: Expected) -> None:
    [hits] = loaded(target, expected, TWINS).search(VECTORS[:1], top_k=3)

    assert ids(hits) == ["id-0000", "id-0001", "id-0002"]


def test_more_candidates_are_read_only_where_the_last_ones_tie(target: Target, expected: Expected) -> None:
    loaded(target, expected, TWINS)

    with proxy(target.url) as watched:
        collection = Loaded(search.open_collection(Target(watched.url, 20), expected), TWINS)
        for question in (VECTORS[:1], VECTORS[9:10]):
            collection.search(question, top_k=3)

    asked = [json.loads(request.body) for request in watched.seen if request.target.endswith("/query")]
    assert [body["n_results"] for body in asked] == [4, 7, 4]


def test_rows_that_the_index_hasnt_got_are_left_out_of_answers(target: Target, expected: Expected) -> None:
    collection = loaded(target, expected)
    forged = chroma(target, expected)
    forged.delete(ids=[row_id(0)])
    forged.add(ids=["0" * 23 + "x"], embeddings=VECTORS[:1], documents=["words of a stranger"])

    [hits] = collection.search(VECTORS[:1], top_k=3)

    nearest = np.argsort(-(VECTORS[0] @ VECTORS.T))[1:4]
    assert ids(hits) == [f"id-{number:04}" for number in nearest]
    assert [hit.passage.text for hit in hits] == [f"passage {number}" for number in nearest]


def test_what_a_collection_says_of_its_rows_changes_no_hit(target: Target, expected: Expected) -> None:
    collection = loaded(target, expected)
    before = collection.search(VECTORS[:20], top_k=3)

    rows = [row_id(number) for number in range(2000)]
    chroma(target, expected).update(ids=rows, metadatas=[{"uri": "forged", "text": "forged"}] * 2000)

    assert collection.search(VECTORS[:20], top_k=3) == before


def test_hits_below_min_score_are_left_out(target: Target, expected: Expected) -> None:
    [hits] = loaded(target, expected).search(VECTORS[:1], top_k=5, min_score=0.99)

    assert [hit.passage.chunk_id for hit in hits] == ["id-0000"]


def test_questions_with_and_without_a_condition_are_searched_together(target: Target, expected: Expected) -> None:
    passages = make_passages(VECTORS, [{"odd": bool(number % 2)} for number in range(2000)])
    collection = loaded(target, expected, passages).collection
    where = {"odd": "{odd}"}
    retriever = DenseRetriever(collection, passages, Retrieval(top_k=3, where=where))
    conditions = [None, condition_of(where, {"odd": True}), condition_of(where, {"odd": False})]

    hits = retriever.search(["?"] * 3, VECTORS[[7, 7, 7]], conditions)

    nearest = np.argsort(-(VECTORS[7] @ VECTORS.T))
    odd, even = nearest[nearest % 2 == 1], nearest[nearest % 2 == 0]
    assert [ids(row) for row in hits] == [[f"id-{number:04}" for number in some[:3]] for some in (nearest, odd, even)]


def test_progress_counts_the_rows_that_are_in(target: Target, expected: Expected) -> None:
    told: list[int] = []

    loading.load(target, expected, PASSAGES, told.append)

    assert told[-1] == 2000
    assert told == sorted(told)


def load_and_die(target: Target, expected: Expected) -> None:
    loading.WRITE_ROWS = 512
    loading.load(target, expected, PASSAGES, lambda _: os.kill(os.getpid(), signal.SIGKILL))


def test_a_load_that_was_killed_is_not_searched_and_is_completed_by_the_next(
    target: Target, expected: Expected
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=load_and_die, args=(target, expected))
    process.start()
    process.join(30)
    process.close()

    assert chroma(target, expected).count() == 512
    assert not loading.is_loaded(target, expected, PASSAGES)
    with pytest.raises(DataError, match=r"index\.collection: .* isn't loaded with all 2000 rows"):
        search.open_collection(target, expected)
    loaded(target, expected)
    assert loading.is_loaded(target, expected, PASSAGES)


def test_two_loads_that_overlap_both_succeed(target: Target, expected: Expected) -> None:
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(loaded, target, expected) for _ in range(2)]

        for load in loads:
            load.result()
    assert loading.is_loaded(target, expected, PASSAGES)


def test_a_collection_that_lost_rows_is_refused_until_a_load_repairs_it(target: Target, expected: Expected) -> None:
    loaded(target, expected)
    chroma(target, expected).delete(ids=[row_id(3), row_id(1999)])

    assert not loading.is_loaded(target, expected, PASSAGES)
    with pytest.raises(DataError, match=r"index\.collection"):
        search.open_collection(target, expected)
    [hits] = loaded(target, expected).search(VECTORS[3:4], top_k=1)
    assert hits[0].passage.chunk_id == "id-0003"


def test_a_collection_with_rows_too_many_is_built_anew(target: Target, expected: Expected) -> None:
    loaded(target, expected)
    chroma(target, expected).add(ids=["stray"], embeddings=VECTORS[:1], documents=["stray"])

    assert not loading.is_loaded(target, expected, PASSAGES)
    loaded(target, expected)
    assert loading.is_loaded(target, expected, PASSAGES)


def test_a_collection_with_other_vectors_is_refused_and_built_anew(target: Target, expected: Expected) -> None:
    loaded(target, expected, make_passages(VECTORS[::-1].copy()))

    assert not loading.is_loaded(target, expected, PASSAGES)
    [hits] = loaded(target, expected).search(VECTORS[:1], top_k=1)
    assert hits[0].passage.chunk_id == "id-0000"


def test_a_collection_with_other_vectors_is_refused(target: Target, expected: Expected) -> None:
    loaded(target, expected)
    exchanged = [row_id(number) for number in range(0, 2000, 5)]
    chroma(target, expected).update(ids=exchanged, embeddings=np.tile(VECTORS[1], (len(exchanged), 1)))

    assert not loading.is_loaded(target, expected, PASSAGES)


@pytest.mark.parametrize(("lost", "is_loaded"), [(0.01, True), (0.1, False)])
def test_a_collection_whose_search_misses_rows_is_refused(
    target: Target, expected: Expected, lost: float, is_loaded: bool
) -> None:
    loaded(target, expected)

    def miss(request: Request, forward: Forward, connection: Connection) -> Answer:
        answer = forward(request)
        body = json.loads(answer.body)
        count = round(lost * len(body["ids"]))
        body["ids"][:count] = body["ids"][count : 2 * count]
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        return Answer(answer.status, headers, content)

    with proxy(target.url, Fault(miss, on="/query")) as losing:
        assert loading.is_loaded(Target(losing.url, 20), expected, PASSAGES) == is_loaded


def test_a_torn_index_on_disk_is_not_loaded_and_is_built_anew(tmp_path: Path, expected: Expected) -> None:
    with LocalChroma(str(tmp_path)) as server:
        loaded(Target(server.url(), 20), expected)
    [index] = [file.parent for file in tmp_path.glob("*/data_level0.bin")]
    shutil.rmtree(index)

    with LocalChroma(str(tmp_path)) as server:
        target = Target(server.url(), 2)
        assert not loading.is_loaded(target, expected, PASSAGES)
        loaded(target, expected)
        assert loading.is_loaded(target, expected, PASSAGES)


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

    refused = r"index\.collection: .* belongs to another index.*: run `ragjob load`"
    with pytest.raises(DataError, match=refused):
        loading.is_loaded(target, expected, PASSAGES)
    with pytest.raises(DataError, match=refused):
        search.open_collection(target, expected)
    loaded(target, expected)
    assert loading.is_loaded(target, expected, PASSAGES)


def test_two_servers_are_not_mixed_up(target: Target, expected: Expected) -> None:
    with LocalChroma(None) as server:
        loaded(target, expected)
        assert not loading.is_loaded(Target(server.url(), 20), expected, PASSAGES)
        assert loading.is_loaded(target, expected, PASSAGES)


def test_rows_that_do_not_fit_one_request_are_sent_in_several(target: Target) -> None:
    wide = np.random.default_rng(2).standard_normal((2_600, 4_096)).astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)

    with proxy(target.url) as watched:
        expected = Expected("wide-1", "1", "fingerprint", len(wide), wide.shape[1], INDEX)
        loading.load(Target(watched.url, 60), expected, make_passages(wide), ignore)

    assert wide.nbytes > 40 * 2**20  # what the server refuses
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
        loading.load(Target(watched.url, 20), expected, PASSAGES, ignore)

    written = [request.body for request in watched.seen if request.target.endswith("/add")]
    assert in_flight.most == 1
    rows = [len(json.loads(body)["ids"]) for body in written]
    assert rows == [600, 600, 600, 200]
    assert max(map(len, written)) < 40 * 2**20


def test_blocks_are_searched_beside_each_other(target: Target, expected: Expected) -> None:
    loaded(target, expected)
    in_flight = InFlight()
    with proxy(target.url, Fault(in_flight, on="/query")) as watched, ThreadPoolExecutor(4) as pool:
        collection = search.open_collection(Target(watched.url, 20), expected)
        beside = pool.map(lambda block: list(collection.nearest(block, 3, 64)), np.split(VECTORS, 4))
        assert [rows for block in beside for rows in block] == list(collection.nearest(VECTORS, 3, 64))

    assert in_flight.most == 4


def test_a_search_outlives_the_server_being_killed(expected: Expected) -> None:
    with LocalChroma(None) as server:
        target = Target(server.url(), 20)
        collection = loaded(target, expected)
        with ThreadPoolExecutor(1) as pool:
            searching = pool.submit(collection.search, VECTORS, top_k=1, batch_size=8)
            time.sleep(0.1)
            server_process(target).kill()
            assert not searching.done()
            hits = searching.result()

    assert [row[0].passage.chunk_id for row in hits] == [f"id-{number:04}" for number in range(2000)]


def test_a_server_that_never_answers_ends_a_call_at_its_deadline(expected: Expected) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(DependencyError, match=r"chroma\.url: http://127.* or raise chroma\.timeout_s") as failure:
            loading.is_loaded(Target(url, 2), expected, PASSAGES)

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


def test_many_equal_chunks_hide_no_other_passage(target: Target, tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(3_500)
    numbers = np.where(order < 2_000, order, 7)  # 1,500 copies of the passage with that number
    ledger = SegmentLedger(str(tmp_path), "s1")
    ledger.write(make_chunks([f"passage {number}" for number in numbers], VECTORS[numbers]))
    settled = ledger.settle(ledger.survey())
    files = SegmentFiles(str(tmp_path), "s1", derive(ledger, settled)[0], str(tmp_path / "cache"))
    passages, questions = files.open(), unit_vectors(300, 4)

    hits = loaded(target, Expected("footers-1", "1", "f", 2_000, DIMENSION, INDEX), passages).search(questions, top_k=5)

    nearest = np.argsort(-(questions @ VECTORS.T), axis=1)[:, :5]
    texts = np.array([[hit.passage.text for hit in row] for row in hits])
    assert np.mean(texts == np.char.add("passage ", nearest.astype(str))) >= 0.995
    assert {hit.passage.equals for row in hits for hit in row if hit.passage.text == "passage 7"} == {1_501}
