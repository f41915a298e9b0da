"""What a plan proposes: actors, their shares of the cluster, batches and blocks, each with the numbers it rests on."""

import math
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from ragjob.config import JobSettings
from ragjob.engines import Engine, Generation
from ragjob.errors import SettingsError
from ragjob.models.capacity import (
    Model,
    Place,
    Proposal,
    Resources,
    Work,
    batch_size,
    embedder_bytes,
    one_a_node,
    passage_flops,
    spread,
)
from ragjob.planning import packing

BLOCKS = 4  # for each actor, at least: then the last to end has at most a quarter more to do than the first
FEWEST_ROWS = 64  # of a block: with fewer, batches get small
STEP = 0.05  # shares of a CPU or GPU are multiples of it
GPU_SHARE = 0.2  # of a GPU for an embedder beside a generator, where the groups' gpu_gb isn't set


@dataclass(frozen=True)
class Indexing:
    """The flow that makes an index version."""

    work: Work
    name = "index"


@dataclass(frozen=True)
class Answering:
    """The flow that answers prompts."""

    work: Work
    engine: Engine[Generation]
    name = "answer"


Flow = Indexing | Answering


def propose(settings: JobSettings, size: Resources, embed: Model, flows: list[Flow]) -> list[Proposal]:
    """Proposals that differ from `settings`, for `flows`, in their order, on a cluster of `size`.

    `embed` is the embedding model.
    """
    places = _places(settings, size, embed, flows)
    engines = [flow.engine for flow in flows if isinstance(flow, Answering)]
    proposals = [
        *(proposal for name, place in places.items() for proposal in _pool(name, place)),
        *_reservations(settings, size, flows, places),
        *_embed_batch(settings, places, embed),
        *(proposal for engine in engines for proposal in engine.proposals(places["generate"])),
        *_blocks(settings, flows, places, embed),
    ]
    return [proposal for proposal in proposals if proposal.value != current(settings, proposal.key)]


def current(settings: JobSettings, key: str) -> float:
    """The value that `settings` have under `key`."""
    return float(attrgetter(key)(settings))


def _places(settings: JobSettings, size: Resources, embed: Model, flows: list[Flow]) -> dict[str, Place]:
    embedding, generating = size.of(settings.embed.pool), size.of(settings.generate.pool)
    match flows:
        case [Indexing(work)]:
            return {"embed": spread(embedding, work)}
        case [Answering(work, engine)]:  # questions are few and short beside what generates
            return {"embed": one_a_node(embedding, work), "generate": engine.place(generating, work)}
        case [Indexing(work), Answering(prompts, engine)]:
            answering = engine.place(generating, prompts)
            shared = {*embedding.groups} & {*generating.groups}
            if not answering.gpus or not any(group.gpus for group in shared):
                return {"embed": spread(embedding, work), "generate": answering}
            return _sharing(settings, embedding, work, embed, answering)
    return {}


def _sharing(settings: JobSettings, size: Resources, work: Work, embed: Model, answering: Place) -> dict[str, Place]:
    """Embedders and generators on the same GPUs; where one of those takes several, embedders stay on CPUs."""
    if answering.gpus > 1:
        embedders = one_a_node(size, work)
        why = f"{embedders.why}; to index on GPUs, run `ragjob index` first"
        return {"embed": Place(embedders.actors, 0, why), "generate": answering}
    share, why = _embedder_share(settings, embed)
    if size.gpus > 1:  # Ray might put the shares of two on one GPU, and then a generator has no place
        why += "; only one, but `ragjob index` by itself can use all GPUs whole"
    rest = f"what an embedder leaves of a GPU, on {size.gpus} GPUs"
    return {"embed": Place(1, share, why), "generate": Place(answering.actors, round(1 - share, 2), rest)}


def _embedder_share(settings: JobSettings, model: Model) -> tuple[float, str]:
    gpu_gb, tokens = settings.cluster.gpu_memory_gb(settings.embed.pool), settings.chunk.size
    if gpu_gb is None:
        return GPU_SHARE, "beside a generator; set the groups' gpu_gb to have it calculated"
    need = embedder_bytes(model, max(settings.embed.batch_size, batch_size(model, tokens)) * tokens)
    share = min(0.5, max(2, math.ceil(need / (gpu_gb * 1e9) / STEP)) * STEP)
    return round(share, 2), f"beside a generator: an embedder takes about {need / 1e9:.1f} of {gpu_gb:g} GB"


def _pool(name: str, place: Place) -> list[Proposal]:
    """The settings of a pool. All of its actors start at once: their start is the longest of a short job."""
    return [
        Proposal(f"{name}.pool.max", place.actors, place.why),
        Proposal(f"{name}.pool.min", place.actors, place.why),
        Proposal(f"{name}.pool.num_gpus", place.gpus, place.why),
    ]


def _reservations(
    settings: JobSettings, size: Resources, flows: list[Flow], places: Mapping[str, Place]
) -> list[Proposal]:
    """CPUs for each actor, where those that the settings say wouldn't fit the proposed actors."""
    names, actors = [flow.name for flow in flows], sum(place.actors for place in places.values())
    if not places or _fit(settings, places, names, size):
        return []
    most = int(size.cpus / actors / STEP)
    fit = partial(_fit, settings, places, names, size)
    steps = bisect(range(1, most + 1), False, key=lambda steps: not fit(num_cpus=steps * STEP))
    why = f"{actors} actors fit {size.cpus:g} CPUs beside reads and writes; their threads don't depend on num_cpus"
    return [Proposal(f"{name}.pool.num_cpus", round(max(1, steps) * STEP, 2), why) for name in places]


def _fit(
    settings: JobSettings, places: Mapping[str, Place], flows: list[str], size: Resources, **reserved: float
) -> bool:
    """Return whether the cluster has room for actors at `places`, each with what is `reserved` for it."""
    sections = {}
    for name, place in places.items():
        section = getattr(settings, name)
        more = {"min": place.actors, "max": place.actors, "num_gpus": place.gpus} | reserved
        sections[name] = section.model_copy(update={"pool": section.pool.model_copy(update=more)})
    try:
        packing.check_pools(settings.model_copy(update=sections), flows, size)
    except SettingsError:
        return False
    return True


def _embed_batch(settings: JobSettings, places: Mapping[str, Place], model: Model) -> list[Proposal]:
    tokens = settings.chunk.size
    wanted = _embed_rows(settings, model)
    if not places["embed"].gpus or settings.embed.batch_size >= wanted:
        return []
    flops = passage_flops(model, tokens)
    why = f"{flops / 1e9:.1f} GFLOP per text of {tokens} tokens: with fewer, a fast GPU waits for the next batch"
    return [Proposal("embed.batch_size", wanted, why)]


def _embed_rows(settings: JobSettings, model: Model) -> int:
    """Chunks of a batch on a GPU, which is cut from one block."""
    return min(batch_size(model, settings.chunk.size), settings.commit_rows)


def _blocks(settings: JobSettings, flows: list[Flow], places: Mapping[str, Place], embed: Model) -> list[Proposal]:
    """Rows of a block: enough blocks that all actors are busy to the last."""
    actors = {"index": places["embed"].actors, "answer": max(place.actors for place in places.values())}
    fewest = max(FEWEST_ROWS, _embed_rows(settings, embed)) if places["embed"].gpus else FEWEST_ROWS
    wanted = min(max(fewest, flow.work.rows // (BLOCKS * actors[flow.name])) for flow in flows)
    if max(actors[flow.name] for flow in flows) == 1 or wanted >= settings.commit_rows:
        return []
    return [Proposal("commit_rows", wanted, f"at least {BLOCKS} blocks for each actor, so that all finish together")]
