"""Whether the actor pools of a flow fit the nodes of the cluster together, in CPUs and GPUs."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations

from ragjob.config import JobSettings
from ragjob.errors import SettingsError
from ragjob.models.capacity import ROUNDING, TASK_CPUS, Group, Resources
from ragjob.settings import Pool

POOLS = {"index": ["embed"], "answer": ["embed", "retrieve", "rerank", "generate"]}  # of each flow, by their sections
TRIES = 100  # of placing a flow's actors as Ray might; fewer where there are very many
PLACED = 20_000  # actors and nodes at most, in all tries


@dataclass
class Node:
    """What is left of a node of `group`, in CPUs and of each GPU; and the pools of the actors on it."""

    group: Group
    cpus: float
    gpus: list[float]
    actors: list[str] = field(default_factory=list)

    def take(self, name: str, pool: Pool) -> bool:
        """Place an actor of the pool `name` here, if there is room.

        Like Ray, give a share of a GPU from the fullest that has room, and more than one as whole GPUs. Raises
        `TornError` if enough is left of the GPUs in total, but in pieces that are too small.
        """
        if not pool.allows(self.group.name):
            return False
        if self.cpus + ROUNDING < pool.num_cpus or sum(self.gpus) + ROUNDING < pool.num_gpus:
            return False
        whole = max(1, int(pool.num_gpus)) if pool.num_gpus else 0
        share = pool.num_gpus / whole if whole else 0
        fullest = sorted(range(len(self.gpus)), key=self.gpus.__getitem__)
        given = [at for at in fullest if self.gpus[at] + ROUNDING >= share][:whole]
        if len(given) < whole:
            raise TornError
        self.cpus -= pool.num_cpus
        for at in given:
            self.gpus[at] -= share
        self.actors.append(name)
        return True


class TornError(Exception):
    """What is left of a node's GPUs is enough, but in pieces."""


class NoPlaceError(Exception):
    """An actor of the pool `name` may find no node with room."""

    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(frozen=True)
class Packing:
    """Placements that Ray may choose for the actors of a flow, each with all nodes.

    `reserved` are the pools whose places have to be taken one pool after the other, before the flow starts: without
    that, Ray might spread small actors so that a large one finds no room. Where it is empty, any order will do.
    """

    placements: list[list[Node]]
    reserved: tuple[str, ...]


def pools(settings: JobSettings, flow: str) -> list[str]:
    """The pools that a flow has with these settings, by their sections."""
    return [name for name in POOLS[flow] if name != "rerank" or settings.rerank.model]


def pool(settings: JobSettings, name: str) -> Pool:
    """The settings of pool `name`: embed, retrieve, rerank or generate."""
    pool_settings: Pool = getattr(settings, name).pool
    return pool_settings


def free_tasks(settings: JobSettings, flow: str, size: Resources) -> int:
    """How many reads, and how many writes, may run at once: one of each for every CPU that the flow's pools leave.

    More were hardly faster on a local disk, and each is a process that takes seconds to start.
    """
    return max(1, int(size.cpus - _cpus(settings, flow)))


def check_pools(settings: JobSettings, flows: list[str], size: Resources) -> str:
    """Pack the pools of each flow. Raises `SettingsError` naming what doesn't fit."""
    return "; ".join(_line(settings, flow, size, pack(settings, flow, size)) for flow in flows) or "none"


def pack(settings: JobSettings, flow: str, size: Resources) -> Packing:
    """Place the actors of the flow's pools, at their maximum, on as many nodes as the cluster may have.

    Raises `SettingsError` if Ray may place them so that one is left over, whichever pools' places are reserved
    first.
    """
    _check_cpus(settings, flow, size)
    for name in pools(settings, flow):
        _check_actor(name, pool(settings, name), size)
    left_over = set()
    largest_first = sorted(pools(settings, flow), key=lambda name: _largest_first(pool(settings, name)))
    for reserved in ((), *permutations(largest_first)):
        try:
            return Packing(list(_placements(settings, flow, size, reserved)), reserved)
        except NoPlaceError as error:
            left_over.add(error.name)
    worst = min(left_over, key=lambda name: _largest_first(pool(settings, name)))
    raise _no_place(worst, pool(settings, worst), flow, size)


def _largest_first(wanted: Pool) -> tuple[float, float]:
    return -wanted.num_gpus, -wanted.num_cpus


def _placements(settings: JobSettings, flow: str, size: Resources, reserved: tuple[str, ...]) -> Iterator[list[Node]]:
    """Placements that Ray may choose, drawn at random, the same each time. Raises `NoPlaceError` when one fails.

    By itself Ray takes actors in any order and places each on any node with room. Places that are reserved for a pool
    fill one node after the other, and are waited for in vain on a node whose GPUs have room only in pieces.
    """
    draw = random.Random(0)
    names = [name for name in reserved or pools(settings, flow) for _ in range(pool(settings, name).max)]
    order = list(range(size.nodes))
    for number in range(max(1, min(TRIES, PLACED // (len(names) + size.nodes)))):
        draw.shuffle(order)
        if not reserved:
            draw.shuffle(names)
        nodes = [Node(group, group.cpus, [1.0] * group.gpus) for group in size.groups for _ in range(group.max)]
        for name in names:
            first = draw.randrange(len(order)) if number % 2 and not reserved else 0
            tried = [nodes[at] for at in order[first:] + order[:first]]
            if not _place(name, pool(settings, name), tried, waits=bool(reserved)):
                raise NoPlaceError(name)
        yield nodes


def _place(name: str, wanted: Pool, nodes: list[Node], *, waits: bool) -> bool:
    """Place an actor on the first of `nodes` that takes it, unless it `waits` for one before. Returns success."""
    for node in nodes:
        try:
            if node.take(name, wanted):
                return True
        except TornError:
            if waits:
                return False
    return False


def _cpus(settings: JobSettings, flow: str) -> float:
    """CPUs that the flow's pools reserve."""
    return sum(
        pool_settings.max * pool_settings.num_cpus
        for pool_settings in (pool(settings, name) for name in pools(settings, flow))
    )


def _check_cpus(settings: JobSettings, flow: str, size: Resources) -> None:
    cpus, room = _cpus(settings, flow), 2 * TASK_CPUS
    if cpus + room > size.cpus + ROUNDING:
        named = {f"{name}.pool": pool(settings, name) for name in pools(settings, flow)}
        key = max(named, key=lambda name: (named[name].max * named[name].num_cpus, name))
        raise SettingsError(
            f"{key}.max: the pools of `{flow}` reserve {cpus:g} CPUs, and reading and writing need {room:g} more, "
            f"but the cluster has {size.cpus:g}; lower {key}.max or {key}.num_cpus"
        )


def _check_actor(name: str, wanted: Pool, size: Resources) -> None:
    """Raise when no node can hold an actor of the pool `name`, even an empty one."""
    key, names = f"{name}.pool", [group.name for group in size.groups]
    if unknown := [named for named in wanted.groups if named not in names]:
        known = ", ".join(filter(None, names)) or "none with a name (Ray's label ray.io/node-group)"
        raise SettingsError(f"{key}.group: no nodes are named {unknown[0]}; the cluster has {known}")
    if wanted.num_gpus > 1 and wanted.num_gpus != int(wanted.num_gpus):
        raise SettingsError(f"{key}.num_gpus: {wanted.num_gpus:g} can't be placed; above one GPU, use a whole number")
    if wanted.num_gpus and not size.gpus:
        raise SettingsError(f"{key}.num_gpus: {wanted.num_gpus:g} of a GPU, but the cluster has none; set it to 0")
    if size.holding(wanted):
        return
    allowed = size.of(wanted).groups
    where = f" of group {' or '.join(wanted.groups)}" * bool(wanted.groups)
    cpus, gpus = max(group.cpus for group in allowed), max(group.gpus for group in allowed)
    if wanted.num_gpus > gpus:
        what, most = f"num_gpus: {wanted.num_gpus:g}", f"over {gpus:g}"
    elif wanted.num_cpus > cpus + ROUNDING:
        what, most = f"num_cpus: {wanted.num_cpus:g}", f"over {cpus:g}"
    else:
        what, most = f"num_cpus: {wanted.num_cpus:g} beside {wanted.num_gpus:g} GPUs", "both"
    raise SettingsError(f"{key}.{what} for one actor, but no node{where} has {most}; lower it")


def _no_place(name: str, wanted: Pool, flow: str, size: Resources) -> SettingsError:
    what, share = ("num_gpus", f"{wanted.num_gpus:g} of a GPU and ") if wanted.num_gpus else ("num_cpus", "")
    nodes = " and ".join(
        f"{group.max} nodes of {group.cpus:g} CPUs" + f" and {group.gpus} GPUs" * bool(group.gpus)
        for group in size.groups
    )
    return SettingsError(
        f"{name}.pool.{what}: {share}{wanted.num_cpus:g} CPUs don't fit beside the other actors of `{flow}` "
        f"on {nodes}; lower the pools' shares or their max"
    )


def _line(settings: JobSettings, flow: str, size: Resources, packing: Packing) -> str:
    free = [left for node in packing.placements[0] for left in node.gpus]
    wasted = sum(left for left in free if ROUNDING < left < 1 - ROUNDING)
    gpus = f", {len(free) - sum(free):g} of {len(free)} GPUs" * bool(free) + f", {wasted:g} left over" * bool(wasted)
    return f"{flow}: {_cpus(settings, flow):g} of {size.cpus:g} CPUs{gpus}"
