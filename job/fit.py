"""Whether the actor pools of a flow fit the cluster together, in CPUs, GPUs and memory."""

from dataclasses import dataclass

from job.cluster import Resources
from job.config import JobSettings, Pool
from job.engines import batch_bytes, kv_cache_bytes
from job.errors import SettingsError
from job.inputs import Segment
from job.models import sizes
from job.models.files import Source

TASK_CPUS = 0.2  # reserved for each read or write; the pools must leave room for one of either
WORKER_BYTES = 700_000_000  # a Python process with torch, before any weights (measured: 0.5 to 0.7 GB)
BYTES_A_TOKEN = 4  # of English text
_POOLS = {"index": ["embed"], "answer": ["embed", "retrieve", "generate"]}


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


def threads(pool: Pool, size: Resources) -> int:
    """Threads for the model in one actor: the CPUs of its node, divided among the pool's actors there.

    More than it reserves: a reservation keeps actors apart, but the stages of a flow take turns at the CPUs.
    """
    actors = -(-pool.max // size.nodes)
    return max(1, int(size.cpus / size.nodes / actors))


def free_tasks(settings: JobSettings, flow: str, size: Resources) -> int:
    """How many reads, and as many writes, may run at once: one of either for each CPU that the flow's pools leave.

    More were hardly faster on a local disk, and each is a process that takes seconds to start.
    """
    taken = sum(actor.cpus for actor in _actors(settings, flow))
    return max(1, int(size.cpus - taken))


def check_pools(settings: JobSettings, flows: list[str], size: Resources) -> str:
    """Pack the pools of each flow at their largest. Raises `SettingsError` naming what doesn't fit."""
    return "; ".join(_check_flow(flow, _actors(settings, flow), size) for flow in flows) or "none"


def estimate_chunks(settings: JobSettings, segments: list[Segment]) -> int:
    """Chunks that a corpus will have, roughly."""
    return sum(segment.size for segment in segments) // (BYTES_A_TOKEN * settings.chunk.size // 2)


def check_memory(
    settings: JobSettings,
    flows: list[str],
    size: Resources,
    embed: Source,
    generate: Source | None,
    chunks: int,
) -> str:
    """Compare a rough sum of models and Chroma with the memory of the one node. Raises `SettingsError`."""
    weights = {
        "embed": sizes.weights_bytes(embed),
        "retrieve": 0,
        "generate": _generator_bytes(settings, embed, generate),
    }
    vectors = 0 if settings.chroma.url else chunks * (8 * sizes.dimension(embed) + 1000)
    actors = max(
        (sum(pool(settings, name).max * (WORKER_BYTES + weights[name]) for name in _POOLS[flow]) for flow in flows),
        default=0,
    )
    need = f"about {(actors + vectors) / 1e9:.1f} GB for models and vectors"
    if size.memory and actors + vectors > size.memory:
        largest = max(weights, key=lambda name: pool(settings, name).max * (WORKER_BYTES + weights[name]))
        lower = "lower it or generate.batch_tokens" if largest == "generate" else "lower it"
        raise SettingsError(
            f"{largest}.pool.max: {need}, this machine has {size.memory / 1e9:.1f} GB; "
            f"{lower}, take a smaller model, or name a Chroma server elsewhere with chroma.url"
        )
    return need


def _generator_bytes(settings: JobSettings, embed: Source, generate: Source | None) -> int:
    engine, gpus = settings.generate.engine, settings.generate.pool.num_gpus
    if engine == "openai":
        return 0
    held = sizes.weights_bytes(generate or embed)
    if engine == "vllm" and not gpus:
        held += int(kv_cache_bytes(settings, 0) or 0)
    if engine == "transformers" and generate and not gpus:
        held += batch_bytes(settings, generate)
    return held


def _actors(settings: JobSettings, flow: str) -> list[Actor]:
    found = [(f"{name}.pool", pool(settings, name)) for name in _POOLS[flow]]
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
