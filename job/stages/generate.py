"""Answer each augmented prompt.

NEEDS  prompt, _augmented: string; retrieved_texts: list<string>
ADDS   answer, finish_reason: string; prompt_tokens, completion_tokens: int32
"""

from dataclasses import astuple

import pyarrow as pa

from job import schema
from job.config import Embed, Generate
from job.models.files import Source
from job.models.generation import Generator, Request
from job.models.source import loading
from job.models.tokenizer import open_tokenizer
from job.stages.embed import open_embedder
from job.stages.rows import add_columns


def make(settings: Generate, system: str, embed: Embed, model: Source, dtype: str, threads: int) -> "GenerateStage":
    """A stage with the engine that the settings name.

    `model` is the causal LM; for `extractive` the embedding model, used in `dtype`.
    """
    return GenerateStage(_engine(settings, embed, model, dtype, threads), system)


def _engine(settings: Generate, embed: Embed, model: Source, dtype: str, threads: int) -> Generator:
    gpus = settings.pool.num_gpus
    if settings.engine == "transformers":
        from job.models.causal_lm import CausalLM

        how = settings.model_dump(include={"dtype", "batch_size", "max_new_tokens", "temperature"})
        with loading(model) as folder:
            return CausalLM(folder, threads=threads, gpus=gpus, **how)
    from job.models.extractive import ExtractiveGenerator

    return ExtractiveGenerator(open_embedder(embed, model, dtype, threads, gpus), open_tokenizer(model))


class GenerateStage:
    """Answer a block of prompts with one engine."""

    def __init__(self, generator: Generator, system: str) -> None:
        self._generator = generator
        self._system = system

    def __call__(self, prompts: pa.Table) -> pa.Table:
        answered = add_columns(prompts, schema.GENERATED, self._compute)
        return answered.drop_columns([schema.AUGMENTED])

    def _compute(self, prompts: pa.Table) -> list[pa.Array]:
        columns = (schema.AUGMENTED, schema.PROMPT, "retrieved_texts")
        requests = [
            Request(self._system, user, question, passages)
            for user, question, passages in zip(*(prompts[name].to_pylist() for name in columns), strict=True)
        ]
        completions = [astuple(completion) for completion in self._generator.generate(requests)]
        values = zip(*completions, strict=True)
        return [pa.array(column, field.type) for column, field in zip(values, schema.GENERATED, strict=True)]
