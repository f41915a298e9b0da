"""Answer each augmented prompt.

NEEDS  prompt, _augmented: string; retrieved_texts: list<string>
ADDS   answer, finish_reason: string; prompt_tokens, completion_tokens, _cached_tokens: int32
"""

import math
from dataclasses import fields
from operator import attrgetter

import pyarrow as pa

from job import schema
from job.config import Embed, Generate
from job.models.files import Source
from job.models.generation import VLLM_SEQUENCES, Completion, Failure, Generator, Request
from job.models.source import loading
from job.models.tokenizer import open_tokenizer
from job.stages.embed import open_embedder
from job.stages.rows import add_columns, move_errors

# Read by glibc as a process starts. By itself it returns large blocks to the system as soon as they are free, and has
# them cleared anew: a quarter of the time of an engine on a processor. All threads share one arena, since only that one
# keeps what its threads free.
KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**35)}
_FAULT = "_fault"
_values = attrgetter(*(field.name for field in fields(Completion)))
_ADDS = pa.schema([*schema.GENERATED, (schema.CACHED_TOKENS, pa.int32()), (_FAULT, pa.string())])


def make(settings: Generate, system: str, embed: Embed, model: Source, dtype: str, threads: int) -> "GenerateStage":
    """A stage with the engine that the settings name.

    `model` is the causal LM; for `extractive` the embedding model, used in `dtype`.
    """
    return GenerateStage(_engine(settings, embed, model, dtype, threads), system)


def environment(settings: Generate) -> dict[str, str]:
    """What the processes of the pool have to start with."""
    computes = settings.engine in ("transformers", "vllm") and not settings.pool.num_gpus
    return KEEP_MEMORY if computes else {}


def blocks_at_once(settings: Generate, rows: int) -> int:
    """Blocks of `rows` prompts that one actor is to have at once: as many as fill its engine, and the next one.

    An engine that batches by itself then never runs empty between two blocks.
    """
    room = {"vllm": settings.vllm.get("max_num_seqs", VLLM_SEQUENCES), "openai": settings.openai.concurrency}
    return 1 + math.ceil(room[settings.engine] / rows) if settings.engine in room else 1


def _engine(settings: Generate, embed: Embed, model: Source, dtype: str, threads: int) -> Generator:
    gpus = settings.pool.num_gpus
    how = settings.model_dump(include={"max_new_tokens", "temperature"})
    if settings.engine == "openai":
        from job.models.openai_api import OpenAIClient

        return OpenAIClient(model=settings.model, **settings.openai.model_dump(), **how)
    if settings.engine == "extractive":
        from job.models.extractive import ExtractiveGenerator

        return ExtractiveGenerator(open_embedder(embed, model, dtype, threads, gpus), open_tokenizer(model))
    how |= {"dtype": settings.dtype, "threads": threads, "gpus": gpus}
    with loading(model) as folder:
        if settings.engine == "vllm":
            from job.models.vllm_engine import VLLMEngine

            return VLLMEngine(folder, arguments=settings.vllm, **how)
        from job.models.causal_lm import CausalLM

        return CausalLM(folder, batch_size=settings.batch_size, batch_tokens=settings.batch_tokens, **how)


class GenerateStage:
    """Answer a block of prompts with one engine. Several blocks may be at it, where the engine takes several."""

    def __init__(self, generator: Generator, system: str) -> None:
        self._generator = generator
        self._system = system

    def __call__(self, prompts: pa.Table) -> pa.Table:
        answered = add_columns(prompts, _ADDS, self._compute)
        return move_errors(answered, _FAULT).drop_columns([schema.AUGMENTED])

    def _compute(self, prompts: pa.Table) -> list[pa.Array]:
        columns = (schema.AUGMENTED, schema.PROMPT, "retrieved_texts")
        requests = [
            Request(self._system, user, question, passages)
            for user, question, passages in zip(*(prompts[name].to_pylist() for name in columns), strict=True)
        ]
        values = zip(*map(_row, self._generator.generate(requests)), strict=True)
        return [pa.array(column, field.type) for column, field in zip(values, _ADDS, strict=True)]


def _row(answer: Completion | Failure) -> tuple[object, ...]:
    """The values of `_ADDS`."""
    if isinstance(answer, Failure):
        return (*[None] * (len(_ADDS) - 1), answer.error)
    return (*_values(answer), None)
