"""Runs as small tables."""

import pyarrow as pa

from ragjob.evaluation.labels import Label, Labels
from ragjob.ledger import schema

DEPOT, BRIDGE, OTHER = "depot.md", "bridge.md", "other.md"
ALL_FOUND = [DEPOT, BRIDGE, OTHER]


def run_of(rows: list[dict[str, object]]) -> pa.Table:
    """The answers of a run: its prompts are `p0`, `p1` and so on, and a row has what isn't like in most of them."""
    usual = {
        schema.ANSWER: "It is the depot.",
        schema.RETRIEVED_IDS: ["c1", "c2", "c3"],
        schema.RETRIEVED_DOCUMENT_IDS: ALL_FOUND,
        schema.ERROR: None,
    }
    return pa.Table.from_pylist(
        [{schema.PROMPT_ID: f"p{n}", schema.PROMPT: f"Question {n}?"} | usual | row for n, row in enumerate(rows)]
    )


def labels_of(*relevant: str, answers: tuple[str, ...] = (), prompts: int = 1, kind: str = "document_ids") -> Labels:
    """The same label for each of some prompts."""
    label = Label(frozenset(relevant), answers)
    return Labels(schema.PROMPT_ID, kind, {f"p{n}": label for n in range(prompts)})
