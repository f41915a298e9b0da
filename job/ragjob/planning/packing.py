"""Whether the actor pools of a flow fit the cluster together, in CPUs and GPUs."""

from dataclasses import dataclass

from ragjob.config import JobSettings
from ragjob.errors import SettingsError
from ragjob.models.capacity import Resources
from ragjob.runtime.flow import TASK_CPUS
from ragjob.settings import Pool

POOLS = {"index": ["embed"], "answer": ["embed", "retrieve", "generate"]}  # of each flow, by their sections


@dataclass(frozen=True)
class Actor:
    """One actor of a pool and what it reserves."""

    key: str
    cpus: float
    gpus: float


def pool(settings: JobSettings, name: str) -> Pool:
    """The settings of pool `name`: embed, retrieve or generate."""
    found: Pool = getattr(settings, name).pool
    return found


def free_tasks(settings: JobSettings, flow: str, size: Resources) -> int:
    """How many reads, and as many writes, may run at once: one of either for each CPU that the flow's pools leave.

    More were hardly faster on a local disk, and each is a process that takes seconds to start.
    """
    taken = sum(actor.cpus for actor in _actors(settings, flow))
    return max(1, int(size.cpus - taken))


def check_pools(settings: JobSettings, flows: list[str], size: Resources) -> str:
    """Pack the pools of each flow at their largest. Raises `SettingsError` naming what doesn't fit."""
    return "; ".join(_check_flow(flow, _actors(settings, flow), size) for flow in flows) or "none"


def _actors(settings: JobSettings, flow: str) -> list[Actor]:
    found = [(f"{name}.pool", pool(settings, name)) for name in POOLS[flow]]
    return [Actor(key, each.num_cpus, each.num_gpus) for key, each in found for _ in range(each.max)]


def _check_flow(flow: str, actors: list[Actor], size: Resources) -> str:
    cpus = sum(actor.cpus for actor in actors)
    room = 2 * TASK_CPUS
    if cpus + room > size.cpus + 1e-9:
        key = max({actor.key for actor in actors}, key=lambda key: sum(a.cpus for a in actors if a.key == key))
        raise SettingsError(
            f"{key}.max: the pools of `{flow}` reserve {cpus:g} CPUs, and reads and writes need {room:g}, "
            f"but the cluster has {size.cpus:g}; lower {key}.max or {key}.num_cpus"
        )
    _check_nodes(flow, actors, size)
    return f"{flow}: {cpus:g} of {size.cpus:g} CPUs{_pack(flow, actors, size)}"


def _check_nodes(flow: str, actors: list[Actor], size: Resources) -> None:
    """Place the CPUs, largest actor first, each on the first node with room."""
    each = size.cpus / size.nodes
    free = [each] * size.nodes
    for actor in sorted(actors, key=lambda a: -a.cpus):
        key = f"{actor.key}.num_cpus"
        if actor.cpus > each + 1e-9:
            raise SettingsError(f"{key}: {actor.cpus:g} for one actor, but a node has {each:g}; lower it")
        places = [at for at, room in enumerate(free) if room + 1e-9 >= actor.cpus]
        if not places:
            raise SettingsError(
                f"{key}: {actor.cpus:g} CPUs find no place beside the other actors of `{flow}` on {size.nodes} nodes "
                f"of {each:g}; lower it, or the pools' max"
            )
        free[places[0]] -= actor.cpus


def _pack(flow: str, actors: list[Actor], size: Resources) -> str:
    """Place the GPU shares, largest first, each on the first GPU with room."""
    gpus = int(size.gpus)
    free = [1.0] * gpus
    for actor in sorted((a for a in actors if a.gpus), key=lambda a: -a.gpus):
        key, share = f"{actor.key}.num_gpus", actor.gpus
        if share > 1 and share != int(share):
            raise SettingsError(f"{key}: {share:g} can't be placed: above one GPU, take whole ones")
        if not gpus:
            raise SettingsError(f"{key}: {share:g} of a GPU, but the cluster has none; set it to 0")
        if size.node_gpus is not None and share > max(1, size.node_gpus):
            raise SettingsError(f"{key}: {share:g} for one actor, but no node has over {size.node_gpus:g}; lower it")
        whole = max(1, int(share))
        places = [at for at, room in enumerate(free) if room + 1e-9 >= share / whole][:whole]
        if len(places) < whole:
            raise SettingsError(
                f"{key}: {share:g} of a GPU finds no place beside the other actors of `{flow}` on {gpus} GPUs; "
                "lower the shares or the pools' max"
            )
        for at in places:
            free[at] -= share / whole
    wasted = sum(room for room in free if 1e-9 < room < 1 - 1e-9)
    return f", {gpus - sum(free):g} of {gpus} GPUs" + f", {wasted:g} left over" * bool(wasted) if gpus else ""
