"""Embed texts.

NEEDS  for `index`   text: string
       for `answer`  prompt: string
ADDS   embedding: fixed_size_list<float>[dimension], of length 1
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from job import schema
from job.config import Embed
from job.models.files import Source
from job.models.source import loading
from job.stages.rows import add_columns

if TYPE_CHECKING:
    from job.models.embedder import Embedder

Vectors = npt.NDArray[np.float32]

# For one actor: one is tokenized while the other is computed, and a processor's threads never wait for a block's last.
BLOCKS_AT_ONCE = 2


def make_for_chunks(
    settings: Embed, model: Source, dtype: Callable[[Callable[[], str]], str], threads: int
) -> "EmbedStage":
    """A stage that embeds chunks.

    `dtype` settles the version's dtype once, given how to measure it here.
    """
    from job.models.device import choose_dtype

    gpus = settings.pool.num_gpus
    embedder = open_embedder(settings, model, dtype(lambda: choose_dtype(settings.dtype, gpus)), threads, gpus)
    return EmbedStage(embedder.embed_documents, embedder.dimension, schema.TEXT)


def make_for_prompts(settings: Embed, model: Source, dtype: str, threads: int) -> "EmbedStage":
    """A stage that embeds prompts in the dtype of their index."""
    embedder = open_embedder(settings, model, dtype, threads, settings.pool.num_gpus)
    return EmbedStage(embedder.embed_queries, embedder.dimension, schema.PROMPT)


def open_embedder(settings: Embed, model: Source, dtype: str, threads: int, gpus: float) -> "Embedder":
    """Load the embedding model, fetched if need be, for an actor that reserves `gpus` GPUs."""
    from job.models.embedder import Embedder  # imports torch, which the driver never needs

    how = settings.model_dump(include={"batch_size", "max_length", "query_prefix", "document_prefix"})
    with loading(model) as folder:
        return Embedder(folder, dtype=dtype, threads=threads, gpus=gpus, **how)


class EmbedStage:
    """Add the embedding of column `column` of each row.

    `embed` takes n texts and gives float32 [n, dimension].
    """

    def __init__(self, embed: Callable[[list[str]], Vectors], dimension: int, column: str) -> None:
        self._embed = embed
        self._adds = schema.embedded(dimension)
        self._column = column

    def __call__(self, rows: pa.Table) -> pa.Table:
        return add_columns(rows, self._adds, self._compute)

    def _compute(self, rows: pa.Table) -> list[pa.Array]:
        vectors = self._embed(rows[self._column].to_pylist())
        if not np.isfinite(vectors).all():
            raise ValueError("the embedding has values that aren't numbers")
        return [pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])]
