"""What a plan proposes for answers, with or without an index to make first."""

from typing import Any

from ragjob.models.capacity import Model, Resources, Work
from ragjob.planning.proposals import Answering, Flow, Indexing, propose
from tests.engines.shapes import MINILM, engine_of, given, listed

INDEX, PROMPTS = Work(100_000, 5_000), Work(10_000, 10_000)


def proposed(
    size: Resources, model: Model | None = None, *, index: Work | None = None, prompts: Work = PROMPTS, **assigned: Any
) -> dict[str, float]:
    """What is proposed for answers by `model`, and for an index where one is to be made first."""
    settings = given(**assigned)
    flows: list[Flow] = [Indexing(index)] if index else []
    if model:
        flows.append(Answering(prompts, engine_of(settings, listed(model))))
    return {proposal.key: proposal.value for proposal in propose(settings, size, MINILM, flows)}


def cpus(count: float, nodes: int = 1) -> Resources:
    return Resources.equal(count, nodes=nodes)


def gpus(count: float, nodes: int = 1) -> Resources:
    return Resources.equal(8 * count, count, nodes)
