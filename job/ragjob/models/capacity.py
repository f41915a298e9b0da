"""How much models take of a cluster: what it has, what a model costs, and where actors should go.

All of it is calculated from a cluster's size and the models' configs. docs/tuning.md has the formulae.
"""

import math
from dataclasses import dataclass

from ragjob.models import sizes
from ragjob.models.files import Source
from ragjob.settings import Pool

SINGLE, HALF = 4, 2  # bytes of a number in single and half precision
ROUNDING = 1e-9  # which sums of shares may be off by
CUDA_BYTES = 500_000_000  # CUDA's context of one process, about
# Numbers of a model's width that one pass holds for each token: three of an MLP five times as wide, queries, keys,
# values, what goes in and what comes out.
ACTIVATIONS = 24
# A batch should keep the fastest GPU busy for as long as a processor needs to hand it the kernels of one pass.
LAYER_LAUNCH_S = 150e-6
FASTEST_FLOPS = 0.4 * 989e12  # of an H100's peak in half precision (its data sheet), what products that large reach
TASK_CPUS = 0.2  # reserved for each task that reads or writes; the pools must leave room for one of either


@dataclass(frozen=True)
class Group:
    """Equal nodes of a cluster, `min` to `max` of them, and what each has; memory in bytes, where it is known.

    `name` is the value of their Ray label, "" where they have none.
    """

    name: str
    cpus: float
    gpus: int = 0
    memory: int | None = None
    min: int = 0
    max: int = 1

    def holds(self, pool: Pool) -> bool:
        """Return whether an actor of `pool` has room on an empty node of this group."""
        return pool.allows(self.name) and self.cpus + ROUNDING >= pool.num_cpus and self.gpus >= pool.num_gpus


@dataclass(frozen=True)
class Resources:
    """What a cluster has, or may grow to: its nodes, by groups of equal ones."""

    groups: tuple[Group, ...]

    @classmethod
    def equal(cls, cpus: float, gpus: float = 0, nodes: int = 1, memory: int | None = None) -> "Resources":
        """A cluster with that many CPUs and GPUs in total on equal nodes; a remainder of GPUs goes to some of them."""
        per_node, more = divmod(int(gpus), nodes)
        sizes = {per_node + 1: more, per_node: nodes - more}
        return cls(tuple(Group("", cpus / nodes, has, memory, max=n) for has, n in sizes.items() if n))

    @property
    def nodes(self) -> int:
        """Nodes, at most."""
        return sum(group.max for group in self.groups)

    @property
    def cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(group.max * group.cpus for group in self.groups)

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(group.max * group.gpus for group in self.groups)

    def of(self, pool: Pool) -> "Resources":
        """The part of it that `pool` may use."""
        return Resources(tuple(group for group in self.groups if pool.allows(group.name)))

    def holding(self, pool: Pool) -> list[Group]:
        """The groups whose nodes have room for an actor of `pool`."""
        return [group for group in self.groups if group.holds(pool)]


@dataclass(frozen=True)
class Work:
    """What a flow has to do: `rows` chunks or prompts, from `units` documents or prompts that aren't divided."""

    rows: int
    units: int


@dataclass(frozen=True)
class Place:
    """How many actors a pool gets, with how much of a GPU each, and why."""

    actors: int
    gpus: float
    why: str


@dataclass(frozen=True)
class Proposal:
    """A setting, the value proposed for it, and why."""

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

    These may be more than it reserves: a reservation keeps actors apart, but the stages of a flow take turns at the
    CPUs. If Ray may place it on nodes of several sizes, the smallest decides.
    """
    groups = size.holding(pool)
    actors = math.ceil(pool.max / max(1, sum(group.max for group in groups)))
    return max(1, int(min((group.cpus for group in groups), default=1) / actors))


def one_a_node(size: Resources, work: Work) -> Place:
    """Actors on CPUs: more than one on a node would hold the weights more than once, and be no faster."""
    fewest, most = (int(pick(group.cpus for group in size.groups)) for pick in (min, max))
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return Place(min(size.nodes, work.units), 0, f"one actor per node, with all its {count} threads")


def spread(size: Resources, work: Work) -> Place:
    """One actor for each GPU, or, if there are none, one per node."""
    if size.gpus:
        return Place(min(size.gpus, work.units), 1, f"one actor for each of {size.gpus} GPUs")
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
