"""Attach the best passages to each prompt.

NEEDS  embedding: fixed_size_list<float>[dimension]
ADDS   retrieved_ids, retrieved_uris, retrieved_texts, retrieved_scores: lists, best first, at most top_k long
"""

from typing import TYPE_CHECKING

import pyarrow as pa

from job import schema
from job.config import Retrieve
from job.stages.rows import add_columns

if TYPE_CHECKING:
    from job.store import Collection, Expected, Target

# For one actor. Chroma computes a request on one core, so that as many of them are busy.
BLOCKS_AT_ONCE = 4


def make(settings: Retrieve, target: "Target", expected: "Expected") -> "RetrieveStage":
    """A stage that searches the collection `expected`, once that is known to be whole and the right one."""
    from job.store import open_collection  # imports chromadb, which a finished job never needs

    return RetrieveStage(open_collection(target, expected), settings)


class RetrieveStage:
    """Search one Chroma collection for a block of prompts.

    Scores are cosine similarities in [-1, 1]. Raises `DependencyError` when Chroma stays away for longer than
    its deadline.
    """

    def __init__(self, collection: "Collection", settings: Retrieve) -> None:
        self._collection = collection
        self._settings = settings

    def __call__(self, prompts: pa.Table) -> pa.Table:
        found = add_columns(prompts, schema.RETRIEVED, self._compute)
        return found.drop_columns([schema.EMBEDDING])

    def _compute(self, prompts: pa.Table) -> list[pa.Array]:
        flat = prompts[schema.EMBEDDING].combine_chunks().flatten().to_numpy()
        hits = self._collection.search(
            flat.reshape(prompts.num_rows, -1),
            self._settings.top_k,
            self._settings.min_score,
            self._settings.batch_size,
        )
        fields = ("chunk_id", "uri", "text", "score")
        return [
            pa.array([[getattr(hit, name) for hit in row] for row in hits], column.type)
            for name, column in zip(fields, schema.RETRIEVED, strict=True)
        ]
