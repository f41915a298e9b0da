"""Reorder each prompt's passages by a cross-encoder."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob.ledger import schema
from ragjob.models.files import Source
from ragjob.models.settings import Rerank
from ragjob.stages.columns import Stage
from ragjob.stages.rows import Columns, add_columns, arrays, foreign

ScorePairs = Callable[[Sequence[tuple[str, str]]], npt.NDArray[np.float32]]

# For one actor: one is tokenized while the other is computed.
BLOCKS_AT_ONCE = 2
_BEFORE = "_before"  # behind the names of columns as they were


def make(settings: Rerank, model: Source, top_k: int, threads: int) -> "RerankStage":
    """A stage that keeps the best `top_k` passages."""
    from ragjob.models.reranker import open_reranker  # imports torch, which the driver never needs

    return RerankStage(open_reranker(settings, model, threads).score, top_k)


class RerankStage(Stage):
    """Keep the `top_k` passages of each prompt that score best, best first; equal ones stay in their order.

    `retrieved_scores` are then what the passages were ranked by here.
    """

    NAME = "rerank"
    ADDS = pa.schema([*schema.RETRIEVED, *schema.columns(schema.SENTENCES)])
    DROPS = frozenset(ADDS.names)
    NEEDS = pa.schema([*schema.columns(schema.PROMPT, schema.ERROR), *ADDS])

    def __init__(self, score: ScorePairs, top_k: int) -> None:
        self._score = score
        self._top_k = top_k

    def __call__(self, prompts: pa.Table) -> pa.Table:
        names = [f"{name}{_BEFORE}" if name in self.DROPS else name for name in prompts.column_names]
        ranked = add_columns(prompts.rename_columns(names), self.ADDS, self._compute)
        return ranked.drop_columns([name for name in names if name.endswith(_BEFORE)])

    def _compute(self, prompts: pa.Table) -> Columns:
        before = {name: prompts[f"{name}{_BEFORE}"].to_pylist() for name in self.ADDS.names}
        texts = before[schema.RETRIEVED_TEXTS]
        with foreign():
            scores = self._score(
                [
                    (prompt, passage)
                    for prompt, passages in zip(prompts[schema.PROMPT].to_pylist(), texts, strict=True)
                    for passage in passages
                ]
            )
        ends = np.cumsum(list(map(len, texts)))
        before[schema.RETRIEVED_SCORES] = [prompt_scores.tolist() for prompt_scores in np.split(scores, ends[:-1])]
        best = [
            np.argsort(-np.array(prompt_scores), kind="stable")[: self._top_k]
            for prompt_scores in before[schema.RETRIEVED_SCORES]
        ]
        return arrays({name: _picked(lists, best) for name, lists in before.items()}, self.ADDS)


def _picked(lists: list[list[object] | None], best: Sequence[npt.NDArray[np.int64]]) -> list[list[object] | None]:
    """Of each list what stands at its places."""
    return [values and [values[place] for place in places] for values, places in zip(lists, best, strict=True)]
