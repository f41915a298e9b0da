"""The job with models that cost nothing, so that what is left is the pipeline's own: a program for benchmarks/scale.py.

A text's vector is drawn from its hash, and a prompt's answer is the prompt.
"""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from job import pipeline, schema
from job.config import load_settings
from job.execution import Stage, Step
from job.models.generation import Completion, Request
from job.stages.embed import EmbedStage
from job.stages.generate import GenerateStage

DIMENSION = 384
Make = Callable[[], list[Stage]]


def main(command: str, *assignments: str) -> None:
    """Carry out `command` and print the seconds of each stage."""
    settings = load_settings(None, list(assignments))
    free: dict[str, Make] = {"generate": lambda: [GenerateStage(Echo(), "")]}
    index_steps, answer_steps = pipeline.index_steps, pipeline.answer_steps
    pipeline.index_steps = lambda *args: _with(free | _embed(schema.TEXT), index_steps(*args))
    pipeline.answer_steps = lambda *args: _with(free | _embed(schema.PROMPT), answer_steps(*args))
    report = {"index": pipeline.index, "answer": pipeline.answer}[command](settings)
    print(report.rows, {cost.stage: round(cost.seconds, 1) for cost in report.costs})


def hash_vectors(texts: list[str]) -> npt.NDArray[np.float32]:
    """Unit vectors, float32 [len(texts), DIMENSION]."""
    drawn = b"".join(hashlib.shake_128(text.encode()).digest(2 * DIMENSION) for text in texts)
    vectors = np.frombuffer(drawn, np.int16).reshape(len(texts), DIMENSION).astype(np.float32)
    unit: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


class Echo:
    """Answers with the question."""

    def generate(self, requests: list[Request]) -> list[Completion]:
        return [Completion(request.question, "stop", len(request.user), len(request.question)) for request in requests]


def _embed(column: str) -> dict[str, Make]:
    return {"embed": lambda: [EmbedStage(hash_vectors, DIMENSION, column)]}


def _with(free: dict[str, Make], steps: list[Step]) -> list[Step]:
    return [replace(step, make=free.get(step.names[0], step.make)) for step in steps]


if __name__ == "__main__":
    main(*sys.argv[1:])
