"""Embed texts."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob.ledger import schema
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.stages.columns import Stage
from ragjob.stages.rows import Columns, add_columns, foreign

Vectors = npt.NDArray[np.float32]
EmbedTexts = Callable[[list[str]], Vectors]  # n texts to float32 [n, dimension]

# For one actor: one is tokenized while the other is computed, and a processor's threads never wait for a block's last.
BLOCKS_AT_ONCE = 2


def make_for_documents(
    stages: "list[type[EmbeddingStage]]",
    settings: Embed,
    model: Source,
    dtype: Callable[[Callable[[], str]], str],
    threads: int,
) -> list[Stage]:
    """Stages that embed what documents say, with one model.

    `dtype` returns that of the index, which is settled once; its argument measures it here.
    """
    from ragjob.models.device import choose_dtype  # these import torch, which the driver never needs
    from ragjob.models.embedder import open_embedder

    gpus = settings.pool.num_gpus
    embedder = open_embedder(settings, model, dtype(lambda: choose_dtype(settings.dtype, gpus)), threads, gpus)
    return [stage(embedder.embed_documents, embedder.dimension) for stage in stages]


def make_for_prompts(settings: Embed, model: Source, dtype: str, threads: int) -> "EmbedPrompts":
    """A stage that embeds prompts in the dtype of their index."""
    from ragjob.models.embedder import open_embedder

    embedder = open_embedder(settings, model, dtype, threads, settings.pool.num_gpus)
    return EmbedPrompts(embedder.embed_queries, embedder.dimension)


def embed_finite(embed: EmbedTexts, texts: list[str]) -> Vectors:
    """Embeddings of texts, float32 [len(texts), dimension]. Raises `ValueError` if one isn't all numbers."""
    with foreign():
        vectors = embed(texts)
    if not np.isfinite(vectors).all():
        raise ValueError("the embedding has values that aren't numbers; set embed.model to another model")
    return vectors


class EmbeddingStage(Stage):
    """A stage that embeds texts, each as a vector of length 1 with `dimension` numbers."""

    def __init__(self, embed: EmbedTexts, dimension: int) -> None:
        self._embed = embed
        self._dimension = dimension


class _EmbedColumn(EmbeddingStage):
    """Add the embedding of each row's text in `COLUMN`."""

    NAME = "embed"
    ADDS = schema.columns(schema.EMBEDDING)
    COLUMN: ClassVar[str]

    def __call__(self, rows: pa.Table) -> pa.Table:
        return add_columns(rows, schema.embedded(self._dimension), self._compute)

    def _texts(self, rows: pa.Table) -> list[str]:
        """What is embedded of each row."""
        return list(rows[self.COLUMN].to_pylist())

    def _compute(self, rows: pa.Table) -> Columns:
        vectors = embed_finite(self._embed, self._texts(rows))
        return {schema.EMBEDDING: pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])}


class EmbedChunks(_EmbedColumn):
    """Add the embedding of each chunk: of its context and its text."""

    NEEDS = schema.columns(schema.CONTEXT, schema.TEXT, schema.ERROR)
    COLUMN = schema.TEXT

    def _texts(self, rows: pa.Table) -> list[str]:
        contexts = rows[schema.CONTEXT].to_pylist()
        return list(map(schema.embedded_text, contexts, super()._texts(rows)))


class EmbedPrompts(_EmbedColumn):
    """Add the embedding of each prompt."""

    NEEDS = schema.columns(schema.PROMPT, schema.ERROR)
    COLUMN = schema.PROMPT
