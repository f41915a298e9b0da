"""Loading vectors into a Chroma server and searching them, against a bare client at its best.

The bare client has its rows ready as lists and an array, no checks, no deadlines and no resuming. Its collection is
configured as ours: same space, ef_construction and ef_search, and an index that is written to disk once, at the end,
which is faster than Chroma's own every 1,000 rows. It is tried with several batch sizes and threads first, and the
best is timed in turn with ours.

RAGJOB_BENCH_VECTORS and RAGJOB_BENCH_QUERIES say how many (10,000 and 2,000).
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import chromadb
import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, compare, seconds
from benchmarks.passages import passages
from ragjob.config import JobSettings, Retrieve
from ragjob.ledger import schema
from ragjob.ledger.passages import Passages
from ragjob.retrieval.chroma.collection import HNSW
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.chroma.loading import load
from ragjob.retrieval.chroma.search import open_collection
from ragjob.retrieval.chroma.server import LocalChroma
from ragjob.retrieval.dense.retriever import DenseRetriever
from ragjob.stages import retrieve

DIMENSION = 384
TOP_K = 3
NAME = "bench-1"
LOAD_SIZES = [500, 1000, 2000, 5000]
QUERY_SIZES = [64, 250, 1000]
THREADS = [1, 2, 4]
TRIAL_ROWS = 5000
TRIAL_QUERIES = 1000
BLOCK_ROWS = JobSettings.model_fields["commit_rows"].default  # how the rows come in a run


@dataclass(frozen=True)
class Rows:
    """An index's rows as retrieval maps them, and as the bare client wants them."""

    passages: Passages
    lists: dict[str, Any]
    vectors: np.ndarray


def figures(folder: Path) -> Iterator[Figure]:
    """Rows a second of a load, and queries a second of a search."""
    rows = make_rows(int(os.environ.get("RAGJOB_BENCH_VECTORS", "10000")))
    questions = draw(int(os.environ.get("RAGJOB_BENCH_QUERIES", "2000")), len(rows.vectors), seed=1)
    yield loading(rows)
    with LocalChroma(None) as server:
        target = Target(server.url(), 60)
        load_ours(target, rows)
        yield searching(target, rows, questions)


def loading(rows: Rows) -> Figure:
    """Ours, verified, against the batch size of the bare client that is best for the first rows."""
    count = len(rows.vectors)
    trials = {size: on_new_server(partial(load_bare, rows=rows, count=TRIAL_ROWS, size=size)) for size in LOAD_SIZES}
    best = min(trials, key=trials.__getitem__)
    return compare(
        f"load {count:,} x {DIMENSION} vectors",
        "rows/s",
        lambda: count / on_new_server(partial(load_ours, rows=rows)),
        lambda: count / on_new_server(partial(load_bare, rows=rows, count=count, size=best)),
        f"bare client, {best} rows at a time",
        at_least=0.9,
    )


def searching(target: Target, rows: Rows, questions: np.ndarray) -> Figure:
    """Ours, as a stage of a run, against the batch size and threads of the bare client that are best."""
    retriever = DenseRetriever(open_collection(target, expected(rows)), rows.passages, Retrieve(top_k=TOP_K))
    stage = retrieve.RetrieveStage(retriever, {})
    blocks = [block(questions[start : start + BLOCK_ROWS]) for start in range(0, len(questions), BLOCK_ROWS)]
    collection = client(target).get_collection(NAME, embedding_function=None)
    ask = partial(ask_bare, collection, questions[:TRIAL_QUERIES])
    trials = {(size, threads): seconds(partial(ask, size, threads)) for size, threads in product(QUERY_SIZES, THREADS)}
    size, threads = min(trials, key=trials.__getitem__)
    return compare(
        f"{len(questions):,} top-{TOP_K} queries",
        "queries/s",
        lambda: len(questions) / seconds(lambda: search(stage, blocks)),
        lambda: len(questions) / seconds(lambda: ask_bare(collection, questions, size, threads)),
        f"bare client, {size} at a time in {threads} threads",
        runs=11,
        at_least=0.85,
    )


def search(stage: retrieve.RetrieveStage, blocks: list[pa.Table]) -> None:
    """As an actor of a run does it."""
    with ThreadPoolExecutor(retrieve.BLOCKS_AT_ONCE) as pool:
        list(pool.map(stage, blocks))


def on_new_server(work: Callable[[Target], None]) -> float:
    """Seconds of `work` with a server of its own, which runs already."""
    with LocalChroma(None) as server:
        target = Target(server.url(), 60)
        return seconds(lambda: work(target))


def load_ours(target: Target, rows: Rows) -> None:
    """As `ragjob load` does it."""
    load(target, expected(rows), rows.passages, lambda _: None)


def load_bare(target: Target, rows: Rows, count: int, size: int) -> None:
    """The first `count` rows, `size` at a time."""
    hnsw = HNSW | {"sync_threshold": count}
    collection = client(target).create_collection(NAME, configuration={"hnsw": hnsw}, embedding_function=None)
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        collection.add(embeddings=rows.vectors[part], **{name: column[part] for name, column in rows.lists.items()})


def ask_bare(collection: Any, questions: np.ndarray, size: int, threads: int) -> None:
    """All `questions`, `size` at a time."""
    ask = partial(collection.query, n_results=TOP_K, include=["documents", "metadatas", "distances"])
    parts = [questions[start : start + size] for start in range(0, len(questions), size)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, parts))


def client(target: Target) -> Any:
    """Chroma's own client."""
    url = urlsplit(target.url)
    return chromadb.HttpClient(url.hostname, url.port)


def expected(rows: Rows) -> Expected:
    """What a load of `rows` makes."""
    return Expected(NAME, "1", "fingerprint", len(rows.vectors), DIMENSION, "bench")


def make_rows(count: int) -> Rows:
    """Rows of 20 to a document."""
    vectors, texts = draw(count, count, seed=0), passages(count)
    places = [divmod(number, 20) for number in range(count)]
    metadatas = [
        {schema.URI: f"docs/{document}.md", schema.DOCUMENT_ID: f"{document}.md", schema.CHUNK_INDEX: place}
        for document, place in places
    ]
    ids = [f"{number:0{schema.ID_CHARS}x}" for number in range(count)]
    columns = {schema.CHUNK_ID: ids, schema.TEXT: texts}
    columns |= {name: [metadata[name] for metadata in metadatas] for name in metadatas[0]}
    columns |= {name: [None] * count for name in (schema.TITLE, schema.HEADING, schema.PAGE, schema.METADATA)}
    members = pa.array([[number] for number in range(count)], pa.list_(pa.int32()))
    table = pa.table({schema.ROW_ID: ids, schema.MEMBERS: members})
    mapped = Passages([pa.RecordBatch.from_pydict(columns)], vectors.astype(np.float16), table)
    return Rows(mapped, {"ids": ids, "documents": texts, "metadatas": metadatas}, vectors)


def draw(count: int, rows: int, seed: int) -> np.ndarray:
    """Unit vectors about the same centres at each call, one for 50 of `rows`, as passages lie about their subjects."""
    centres = np.random.default_rng(0).standard_normal((max(1, rows // 50), DIMENSION), np.float32)
    chance = np.random.default_rng([1, seed])
    vectors = centres[chance.integers(0, len(centres), count)]
    vectors += 0.7 * chance.standard_normal((count, DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def block(questions: np.ndarray) -> pa.Table:
    """Prompts as the stage gets them."""
    count = len(questions)
    columns = {schema.PROMPT: pa.array(["What?"] * count), schema.ERROR: pa.nulls(count, pa.string())}
    return pa.table(columns | {schema.EMBEDDING: fixed_size_lists(questions)})


def fixed_size_lists(vectors: np.ndarray) -> pa.Array:
    """`vectors` as the column that an embedder makes."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
