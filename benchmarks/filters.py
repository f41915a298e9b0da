"""Searching with `retrieve.where`, as a stage of a run does it, against brute force in NumPy.

Filters let half, a tenth, a hundredth and 0.02 % of the rows pass, and then a tenant of each prompt's own. Brute force
compares each block of prompts with all rows in one product of matrices, and leaves out what doesn't pass afterwards. At
least 99 % of the first three hits have to be the same, or the benchmark ends.

RAGJOB_BENCH_VECTORS and RAGJOB_BENCH_QUERIES say how many rows and prompts (50,000 and 2,000).
"""

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, compare, seconds
from benchmarks.store import BLOCK_ROWS, TOP_K, block, draw, search
from ragjob.config import Retrieve
from ragjob.ledger import schema
from ragjob.ledger.passages import Passages
from ragjob.retrieval.chroma.search import Collection
from ragjob.retrieval.dense.retriever import DenseRetriever
from ragjob.stages.retrieve import RetrieveStage

TENANTS = 10_000
# What passes of rows that are numbered, by the name of the filter: those whose number leaves 0 when divided by this.
EVERY = {"half": 2, "a tenth": 10, "a hundredth": 100, "0.02 %": 5_000}
SAME = 0.99  # of the hits


def figures(folder: Path) -> Iterator[Figure]:
    """Prompts a second under each filter."""
    count = int(os.environ.get("RAGJOB_BENCH_VECTORS", "50000"))
    vectors = draw(count, count, seed=0)
    questions = draw(int(os.environ.get("RAGJOB_BENCH_QUERIES", "2000")), count, seed=1)
    passages = make_passages(vectors)
    rows, numbers = np.arange(count), np.arange(len(questions))
    for name, every in EVERY.items():
        passing = np.broadcast_to(rows % every == 0, (len(questions), count))
        yield filtering(f"{name} of {count:,} rows pass", passages, questions, {name: 0}, passing)
    same_tenant = rows % TENANTS == (numbers % TENANTS)[:, None]
    yield filtering(f"{TENANTS:,} tenants of {count:,} rows", passages, questions, {"tenant": "{tenant}"}, same_tenant)


def filtering(
    name: str, passages: Passages, questions: np.ndarray, where: dict[str, Any], passing: np.ndarray
) -> Figure:
    """Ours against brute force under one filter, under which `passing` rows (bool [questions, rows]) pass."""
    no_collection = cast("Collection", None)  # every prompt has a filter, and none asks Chroma
    stage = RetrieveStage(DenseRetriever(no_collection, passages, Retrieve(top_k=TOP_K, where=where)), where)
    starts = range(0, len(questions), BLOCK_ROWS)
    blocks = [ask(questions[start : start + BLOCK_ROWS], start) for start in starts]
    check_same(stage, blocks, brute_force(passages, questions, passing))
    return compare(
        name,
        "prompts/s",
        lambda: len(questions) / seconds(partial(search, stage, blocks)),
        lambda: len(questions) / seconds(partial(brute_force, passages, questions, passing)),
        "brute force",
    )


def check_same(stage: RetrieveStage, blocks: list[pa.Table], nearest: np.ndarray) -> None:
    """End when too few of the hits are the nearest that pass, or one of them doesn't pass."""
    retrieved = [ids for part in blocks for ids in stage(part)[schema.RETRIEVED_IDS].to_pylist()]
    wanted = [{chunk_id(row) for row in rows if row >= 0} for rows in nearest.tolist()]
    same = sum(len(rows.intersection(ids)) for ids, rows in zip(retrieved, wanted, strict=True))
    if same < SAME * sum(map(len, wanted)) or [*map(len, retrieved)] != [*map(len, wanted)]:
        sys.exit(f"only {same:,} of {sum(map(len, wanted)):,} hits are those of brute force")


def brute_force(passages: Passages, questions: np.ndarray, passing: np.ndarray) -> np.ndarray:
    """Rows nearest to each question that pass, best first, int [questions, TOP_K]; -1 where there are fewer."""
    vectors = passages.vectors(slice(None))
    nearest = np.empty((len(questions), TOP_K), int)
    for start in range(0, len(questions), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        near = np.where(passing[part], questions[part] @ vectors.T, -np.inf)
        best = np.argpartition(-near, TOP_K, axis=1)[:, :TOP_K]
        nearest[part] = np.where(np.isfinite(np.take_along_axis(near, best, axis=1)), best, -1)
    return nearest


def make_passages(vectors: np.ndarray) -> Passages:
    """A row for each of `vectors`, and a document for each row, with what the filters ask for."""
    numbers = range(len(vectors))
    about = [
        {name: row % every for name, every in EVERY.items()} | {"tenant": f"tenant {row % TENANTS}"} for row in numbers
    ]
    ids = [*map(chunk_id, numbers)]
    columns = {schema.CHUNK_ID: ids, schema.DOCUMENT_ID: ids, schema.URI: ids, schema.TEXT: ids}
    columns |= {schema.METADATA: [json.dumps(values) for values in about]}
    chunks = pa.table([columns.get(name, pa.nulls(len(ids))) for name in schema.CHUNKS.names], schema.CHUNKS.names)
    rows = pa.table({schema.ROW_ID: ids, schema.MEMBERS: pa.array([[row] for row in numbers], pa.list_(pa.int32()))})
    return Passages(chunks.to_batches(BLOCK_ROWS), vectors.astype(np.float16), rows)


def chunk_id(row: int) -> str:
    """Id of the one chunk of a row."""
    return f"{row:0{schema.ID_CHARS}x}"


def ask(questions: np.ndarray, first: int) -> pa.Table:
    """Prompts from number `first` on, as the stage gets them, each with its tenant."""
    tenants = [f"tenant {number % TENANTS}" for number in range(first, first + len(questions))]
    return block(questions).append_column("tenant", pa.array(tenants))
