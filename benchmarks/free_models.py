"""The job with models that cost nothing, so that what is left is the pipeline's own: a program that benchmarks run.

A text's vector is drawn from its hash, and a prompt's answer is the prompt. RAGJOB_BENCH_DIMENSION says how many
numbers a vector has (384).
"""

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ragjob.commands import answering, api, indexing
from ragjob.config import load_settings
from ragjob.engines.base import Completion, Request
from ragjob.runtime.flow import Step
from ragjob.stages.columns import Stage
from ragjob.stages.embed import EmbedChunks, EmbedPrompts
from ragjob.stages.generate import GenerateStage
from ragjob.stages.sentences import EmbedSentences

DIMENSION = int(os.environ.get("RAGJOB_BENCH_DIMENSION", "384"))


def main(command: str, *assignments: str) -> None:
    """Carry out `command` and print the seconds of each stage."""
    settings = load_settings(None, list(assignments))
    index_steps, answer_steps = indexing.index_steps, answering.answer_steps
    indexing.index_steps = lambda *args: _with_free_models(index_steps(*args))
    answering.answer_steps = lambda *args: _with_free_models(answer_steps(*args))
    report = {"index": api.index, "answer": api.answer}[command](settings)
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


FREE: dict[type[Stage], Callable[[], Stage]] = {
    EmbedChunks: lambda: EmbedChunks(hash_vectors, DIMENSION),
    EmbedSentences: lambda: EmbedSentences(hash_vectors, DIMENSION),
    EmbedPrompts: lambda: EmbedPrompts(hash_vectors, DIMENSION),
    GenerateStage: lambda: GenerateStage(Echo(), ""),
}


def _with_free_models(steps: list[Step]) -> list[Step]:
    return [_with_free_model(step) for step in steps]


def _with_free_model(step: Step) -> Step:
    if not FREE.keys() >= {*step.stages}:
        return step
    return replace(step, make=lambda: [FREE[stage]() for stage in step.stages])


if __name__ == "__main__":
    main(*sys.argv[1:])
