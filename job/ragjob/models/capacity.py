"""How much models take of a cluster: what it has, what a model costs, and where actors should go.

All of it is calculated from a cluster's size and the models' configs. docs/tuning.md has the formulae.
"""

import math
from dataclasses import dataclass

from ragjob.models import sizes
from ragjob.models.files import Source
from ragjob.settings import Pool

SINGLE, HALF = 4, 2  # bytes of a number in single and half precision
CUDA_BYTES = 500_000_000  # CUDA's context of one process, about
# Numbers of a model's width that one pass holds for each token: three of an MLP five times as wide, queries, keys,
# values, what goes in and what comes out.
ACTIVATIONS = 24
# A batch should keep the fastest GPU busy for as long as a processor needs to hand it the kernels of one pass.
LAYER_LAUNCH_S = 150e-6
FASTEST_FLOPS = 0.4 * 989e12  # of an H100's peak in half precision (its data sheet), what products that large reach


@dataclass(frozen=True)
class Resources:
    """What a cluster has, or may grow to; where known, memory in bytes, and the GPUs of the node with most."""

    cpus: float
    gpus: float
    nodes: int
    memory: int | None
    node_gpus: float | None = None


@dataclass(frozen=True)
class Work:
    """What a flow has to do: `rows` chunks or prompts, which `units` documents or prompts can be cut into at most."""

    rows: int
    units: int


@dataclass(frozen=True)
class Place:
    """How many actors a pool gets, with how much of a GPU each, and what speaks for that."""

    actors: int
    gpus: float
    why: str


@dataclass(frozen=True)
class Proposal:
    """A setting, the value proposed for it, and what speaks for that."""

    key: str
    value: float
    why: str


@dataclass(frozen=True)
class Model:
    """What decides a model's cost: bytes of its weights, layers, width, and bytes of KV cache a token, if any."""

    weights: int
    layers: int
    width: int
    kv_token: int | None = None


def facts(source: Source) -> Model:
    """What there is to know of a model without loading it."""
    return Model(
        sizes.weights_bytes(source),
        sizes.layers(source),
        sizes.dimension(source),
        sizes.kv_bytes_a_token(source, HALF),
    )


def threads(pool: Pool, size: Resources) -> int:
    """Threads for the model in one actor: the CPUs of its node, divided among the pool's actors there.

    More than it reserves: a reservation keeps actors apart, but the stages of a flow take turns at the CPUs.
    """
    actors = -(-pool.max // size.nodes)
    return max(1, int(size.cpus / size.nodes / actors))


def gpus_a_node(size: Resources) -> int:
    """GPUs of a node, at least one."""
    return max(1, int(size.gpus / size.nodes))


def one_a_node(size: Resources, work: Work) -> Place:
    """Actors on CPUs: more than one on a node would hold the weights more than once, and be no faster."""
    count = threads(Pool(max=size.nodes), size)
    return Place(min(size.nodes, work.units), 0, f"an actor a node, of all its {count} threads")


def spread(size: Resources, work: Work) -> Place:
    """An actor for each GPU, or, where there is none, an actor a node."""
    gpus = int(size.gpus)
    if gpus:
        return Place(min(gpus, work.units), 1, f"an actor for each of {gpus} GPUs")
    return one_a_node(size, work)


def passage_flops(model: Model, tokens: int) -> float:
    """Floating-point operations of one pass of an encoder over a text of `tokens` tokens.

    S (2P + 4LSH): two for each weight and token, and two products of attention. A layer has 12 H² weights: four
    square matrices, and an MLP four times as wide as the model.
    """
    weights = 12 * model.layers * model.width**2
    return tokens * (2 * weights + 4 * model.layers * tokens * model.width)


def token_bytes(width: int, number: int, cached: int | None) -> int:
    """Memory that a token of a batch takes in one pass of a model, whose numbers have `number` bytes."""
    return ACTIVATIONS * width * number + (cached or 0)


def embedder_bytes(model: Model, tokens: int) -> int:
    """GPU memory of an embedder whose batches have `tokens` tokens."""
    return CUDA_BYTES + model.weights + tokens * token_bytes(model.width, HALF, model.kv_token)


def batch_size(model: Model, tokens: int) -> int:
    """Texts of `tokens` tokens that keep the fastest GPU busy while the next batch is handed to it; a power of two."""
    texts = LAYER_LAUNCH_S * model.layers * FASTEST_FLOPS / passage_flops(model, tokens)
    return 1 << math.ceil(math.log2(max(1, texts)))
