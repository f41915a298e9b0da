"""Hybrid searches of a large index, by words and by vectors that cost nothing, and the memory of what searches it.

RAGJOB_BENCH_CHUNKS and RAGJOB_BENCH_QUERIES say how many chunks and prompts there are (1,000,000 and 4,096). A chunk is
four sentences of a novel, drawn at random: that which RAGJOB_BENCH_CORPUS names, or one of the sample's text. To load a
million vectors of 384 numbers takes Chroma over half an hour; RAGJOB_BENCH_DIMENSION makes them shorter.
"""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow as pa

from benchmarks.figures import Figure, seconds
from benchmarks.free_models import hash_vectors
from benchmarks.jobs import novel
from benchmarks.retrieve import with_questions
from benchmarks.scale import CHUNKS, LINES, run, write
from benchmarks.store import BLOCK_ROWS, block, search
from ragjob.commands.serving import searched, served
from ragjob.config import load_settings
from ragjob.planning.identity import find_index, mode_of
from ragjob.runtime.progress import silent
from ragjob.stages import retrieve

QUERIES = int(os.environ.get("RAGJOB_BENCH_QUERIES", "4096"))
SENTENCES, WORDS = 4, 12  # of a chunk, and of a question
PROMPTS_A_SECOND, MEMORY_MB = 80, 2500  # the goals, for a million chunks and two processors


class Searched(NamedTuple):
    """Prompts/s of a quarter of them, and of all; MB of the searcher's own memory, without files."""

    quarter: float
    whole: float
    held: float


def figures(folder: Path) -> Iterator[Figure]:
    """Prompts a second in a process of its own, and what it holds."""
    text = (novel(folder) / "0.txt").read_text("utf-8")
    sentences = [sentence for sentence in text.replace("\n", " ").split(". ") if len(sentence.split()) > WORDS]
    corpus = write(folder / "corpus.parquet", "text", documents(sentences), CHUNKS // LINES)
    settings = [f"corpus.uri={corpus}", "corpus.id_column=id", f"index.uri={folder}/index"]
    settings += [f"chroma.path={folder}/chroma", "chunk.strategy=line"]
    run("index", *settings)
    questions = [" ".join(sentence.split()[:WORDS]) for sentence in Random(1).choices(sentences, k=QUERIES)]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        done = process.submit(search_apart, settings, questions).result()
    name = f"hybrid searches of {CHUNKS:,} chunks"
    goal, share = [done.whole / PROMPTS_A_SECOND], [done.whole / done.quarter]
    yield Figure(name, "prompts/s", done.whole, PROMPTS_A_SECOND, "the goal", goal, at_least=1)
    yield Figure(f"{name}: all of the prompts", "prompts/s", done.whole, done.quarter, "a quarter of them", share)
    yield Figure(f"{name}: memory", "MB", done.held, MEMORY_MB, "the most", [done.held / MEMORY_MB], at_most=1)


def documents(sentences: list[str]) -> Iterator[str]:
    """Texts of `LINES` chunks, each a line."""
    chance = Random(0)
    for _ in range(CHUNKS // LINES):
        yield "\n".join(". ".join(chance.choices(sentences, k=SENTENCES)) + "." for _ in range(LINES))


def search_apart(settings: list[str], questions: list[str]) -> Searched:
    """Search as an actor of a run does."""
    index = find_index(load_settings(None, settings), "search")
    blocks = [
        with_questions(block(hash_vectors(some)), some)
        for some in (questions[start : start + BLOCK_ROWS] for start in range(0, len(questions), BLOCK_ROWS))
    ]
    with searched(index, silent) as server:
        stage = retrieve.make(mode_of(index.settings), served(index, server()))
        search(stage, blocks[:1])  # fills what stays in memory
        quarter, whole = (speed(stage, some) for some in (blocks[: max(1, len(blocks) // 4)], blocks))
        return Searched(quarter, whole, own_memory())


def speed(stage: retrieve.RetrieveStage, blocks: list[pa.Table]) -> float:
    """Prompts a second."""
    return sum(some.num_rows for some in blocks) / seconds(lambda: search(stage, blocks))


def own_memory() -> float:
    """MB that this process holds, without files that it maps."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
    return int(status["RssAnon"].split()[0]) * 1024 / 1e6
