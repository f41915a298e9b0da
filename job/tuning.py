"""What a plan proposes: actors, their shares of the cluster, batches and blocks, each with the numbers it rests on.

All of it is calculated from the settings, the cluster and the models' configs. docs/tuning.md has the formulae.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from job import engines, fit
from job.cluster import Resources
from job.config import JobSettings, Pool
from job.engines import HALF, kv_cache_bytes, sequence_tokens
from job.errors import SettingsError
from job.models import sizes
from job.models.files import Source

BLOCKS = 4  # for each actor, at least: then the last to end has at most a quarter more to do than the first
FEWEST_ROWS = 64  # of a block: with fewer, batches get small
STEP = 0.05  # shares of a CPU or GPU are multiples of it

CUDA_BYTES = 500_000_000  # CUDA's context of one process, about
GPU_FILLED = 0.9  # of an actor's share, at most: what is freed leaves gaps
GPU_SHARE = 0.2  # of a GPU for an embedder beside a generator, where cluster.gpu_gb isn't set
# A batch should keep the fastest GPU busy for as long as a processor needs to hand it the kernels of one pass.
LAYER_LAUNCH_S = 150e-6
FASTEST_FLOPS = 0.4 * 989e12  # of an H100's peak in half precision (its data sheet), what products that large reach
FEWEST_PROMPTS = 16  # at once in vLLM, below which an actor gets more GPUs


@dataclass(frozen=True)
class Model:
    """What decides a model's cost: bytes of its weights, layers, width, and bytes of KV cache a token, if any."""

    weights: int
    layers: int
    width: int
    kv_token: int | None = None


@dataclass(frozen=True)
class Work:
    """What a flow has to do: `rows` chunks or prompts, which `units` documents or prompts can be cut into at most."""

    rows: int
    units: int


@dataclass(frozen=True)
class Proposal:
    """A setting, the value proposed for it, and what speaks for that."""

    key: str
    value: float
    why: str


@dataclass(frozen=True)
class _Place:
    """How many actors a pool gets, with how much of a GPU each."""

    actors: int
    gpus: float
    why: str


def facts(source: Source) -> Model:
    """What there is to know of a model without loading it."""
    return Model(
        sizes.weights_bytes(source),
        sizes.layers(source),
        sizes.dimension(source),
        sizes.kv_bytes_a_token(source, HALF),
    )


def propose(
    settings: JobSettings, size: Resources, work: Mapping[str, Work], embed: Model, generate: Model | None
) -> list[Proposal]:
    """Proposals that differ from `settings`, for the flows of `work` on a cluster of `size`.

    `generate` is the causal LM, if one runs here.
    """
    places = _places(settings, size, work, embed, generate)
    found = [
        *(proposal for name, place in places.items() for proposal in _pool(name, place)),
        *_reservations(settings, size, work, places),
        *_embed_batch(settings, places, embed),
        *_generate_batch(settings, places, generate),
        *_blocks(settings, work, places, embed),
    ]
    return [proposal for proposal in found if proposal.value != current(settings, proposal.key)]


def current(settings: JobSettings, key: str) -> float:
    """The value that `settings` have under `key`."""
    found: object = settings
    for name in key.split("."):
        found = getattr(found, name)
    assert isinstance(found, int | float)
    return found


def passage_flops(model: Model, tokens: int) -> float:
    """Floating-point operations of one pass of an encoder over a text of `tokens` tokens.

    S (2P + 4LSH): two for each weight and token, and two products of attention. A layer has 12 H² weights: four
    square matrices, and an MLP four times as wide as the model.
    """
    weights = 12 * model.layers * model.width**2
    return tokens * (2 * weights + 4 * model.layers * tokens * model.width)


def token_bytes(model: Model) -> int:
    """GPU memory that a token of a batch takes in one pass of a model, in half precision."""
    return engines.token_bytes(model.width, HALF, model.kv_token)


def embedder_bytes(model: Model, tokens: int) -> int:
    """GPU memory of an embedder whose batches have `tokens` tokens."""
    return CUDA_BYTES + model.weights + tokens * token_bytes(model)


def batch_size(model: Model, tokens: int) -> int:
    """Texts of `tokens` tokens that keep the fastest GPU busy while the next batch is handed to it; a power of two."""
    texts = LAYER_LAUNCH_S * model.layers * FASTEST_FLOPS / passage_flops(model, tokens)
    return 1 << math.ceil(math.log2(max(1, texts)))


def _places(
    settings: JobSettings, size: Resources, work: Mapping[str, Work], embed: Model, generate: Model | None
) -> dict[str, _Place]:
    if "answer" not in work:
        return {"embed": _embedders(size, work["index"])}
    answering = _generators(settings, size, work["answer"], generate)
    if not answering.gpus:
        indexing = _embedders(size, work["index"]) if "index" in work else _one_a_node(size, work["answer"])
        return {"embed": indexing, "generate": answering}
    if "index" not in work:  # questions are few and short beside what generates
        return {"embed": _one_a_node(size, work["answer"]), "generate": answering}
    return _sharing(settings, size, work, embed, answering)


def _embedders(size: Resources, work: Work) -> _Place:
    """Where chunks are embedded."""
    if size.gpus >= 1:
        actors = min(int(size.gpus), work.units)
        return _Place(actors, 1, f"an actor for each of {size.gpus:g} GPUs")
    return _one_a_node(size, work)


def _one_a_node(size: Resources, work: Work) -> _Place:
    """Actors on CPUs: more than one on a node would hold the weights more than once, and be no faster."""
    threads = fit.threads(Pool(max=size.nodes), size)
    return _Place(min(size.nodes, work.units), 0, f"an actor a node, of all its {threads} threads")


def _generators(settings: JobSettings, size: Resources, work: Work, generate: Model | None) -> _Place:
    if settings.generate.engine == "openai":
        requests = settings.generate.openai.concurrency
        return _Place(1, 0, f"one actor: it waits for the API, with {requests} requests at once")
    gpus = int(size.gpus)
    if gpus and generate and settings.generate.engine == "vllm":
        whole = _gpus_an_actor(settings, size, generate)
        actors = min(gpus // whole, _gpus_a_node(size) // whole * size.nodes) or 1
        why = f"{whole} of {gpus} GPUs for each actor: {generate.weights / 1e9:.1f} GB of weights"
        return _Place(min(actors, work.units), whole, why)
    if gpus:
        return _Place(min(gpus, work.units), 1, f"an actor for each of {gpus} GPUs")
    return _one_a_node(size, work)


def _gpus_an_actor(settings: JobSettings, size: Resources, model: Model) -> int:
    """The fewest GPUs of one node that hold the weights and some prompts, else those set; one where it isn't known."""
    counts = [1 << power for power in range(_gpus_a_node(size).bit_length())]
    need = FEWEST_PROMPTS * sequence_tokens(settings) * (model.kv_token or 0)
    rooms = {
        count: kv_cache_bytes(_placed(settings, {"generate": _Place(1, count, "")}), model.weights) for count in counts
    }
    stated = max(1, int(settings.generate.pool.num_gpus))
    return next((count for count, room in rooms.items() if room is None or room >= need), stated)


def _gpus_a_node(size: Resources) -> int:
    return max(1, int(size.gpus / size.nodes))


def _sharing(
    settings: JobSettings, size: Resources, work: Mapping[str, Work], embed: Model, answering: _Place
) -> dict[str, _Place]:
    """Embedders and generators on the same GPUs; where one of those takes several, embedders stay on CPUs."""
    if answering.gpus > 1:
        embedders = _one_a_node(size, work["index"])
        why = f"{embedders.why}; for GPUs, index by itself first"
        return {"embed": _Place(embedders.actors, 0, why), "generate": answering}
    share, why = _embedder_share(settings, embed)
    actors = min(int(size.gpus), size.nodes, work["index"].units)
    if size.gpus > size.nodes:  # Ray would put the shares of a node on one GPU, and then a generator has no place
        why += "; one a node: `ragjob index` by itself can have all GPUs whole"
    rest = f"what an embedder leaves of a GPU, on {size.gpus:g} GPUs"
    return {"embed": _Place(actors, share, why), "generate": _Place(answering.actors, round(1 - share, 2), rest)}


def _embedder_share(settings: JobSettings, model: Model) -> tuple[float, str]:
    gpu_gb, tokens = settings.cluster.gpu_gb, settings.chunk.size
    if gpu_gb is None:
        return GPU_SHARE, "beside a generator; with cluster.gpu_gb set, by what it takes"
    need = embedder_bytes(model, max(settings.embed.batch_size, batch_size(model, tokens)) * tokens)
    share = min(0.5, max(2, math.ceil(need / (gpu_gb * 1e9) / STEP)) * STEP)
    return round(share, 2), f"beside a generator: an embedder takes about {need / 1e9:.1f} of {gpu_gb:g} GB"


def _pool(name: str, place: _Place) -> list[Proposal]:
    """The settings of a pool. All of its actors start at once: their start is the longest of a short job."""
    return [
        Proposal(f"{name}.pool.max", place.actors, place.why),
        Proposal(f"{name}.pool.min", place.actors, place.why),
        Proposal(f"{name}.pool.num_gpus", place.gpus, place.why),
    ]


def _reservations(
    settings: JobSettings, size: Resources, work: Mapping[str, Work], places: Mapping[str, _Place]
) -> list[Proposal]:
    """CPUs for each actor, where those that the settings say wouldn't fit the proposed actors."""
    try:
        fit.check_pools(_placed(settings, places), list(work), size)
    except SettingsError:
        actors = sum(place.actors for place in places.values())
        crowd = sum(math.ceil(place.actors / size.nodes) for place in places.values())
        other = settings.retrieve.pool.max * settings.retrieve.pool.num_cpus if "answer" in work else 0
        most = min((size.cpus - 2 * fit.TASK_CPUS - other) / actors, (size.cpus / size.nodes - other) / crowd)
        share = max(1, math.floor(most / STEP + 1e-9)) * STEP
        why = f"{actors} actors beside reads and writes in {size.cpus:g} CPUs; their threads don't depend on it"
        return [Proposal(f"{name}.pool.num_cpus", round(share, 2), why) for name in places]
    return []


def _placed(settings: JobSettings, places: Mapping[str, _Place]) -> JobSettings:
    """`settings` with those actors."""
    sections = {}
    for name, place in places.items():
        section = getattr(settings, name)
        pool = section.pool.model_copy(update={"min": place.actors, "max": place.actors, "num_gpus": place.gpus})
        sections[name] = section.model_copy(update={"pool": pool})
    return settings.model_copy(update=sections)


def _embed_batch(settings: JobSettings, places: Mapping[str, _Place], model: Model) -> list[Proposal]:
    tokens = settings.chunk.size
    wanted = _embed_rows(settings, model)
    if not places["embed"].gpus or settings.embed.batch_size >= wanted:
        return []
    flops = passage_flops(model, tokens)
    why = (
        f"{flops / 1e9:.1f} GFLOP a text of {tokens} tokens: fewer don't fill a fast GPU while the next are handed over"
    )
    return [Proposal("embed.batch_size", wanted, why)]


def _embed_rows(settings: JobSettings, model: Model) -> int:
    """Chunks of a batch on a GPU, which is cut from one block."""
    return min(batch_size(model, settings.chunk.size), settings.commit_rows)


def _generate_batch(settings: JobSettings, places: Mapping[str, _Place], model: Model | None) -> list[Proposal]:
    """Tokens of a batch that fill what a GPU's memory has beside the weights; for transformers, others do it alone."""
    place = places.get("generate")
    if not (place and place.gpus and model and model.kv_token and settings.generate.engine == "transformers"):
        return []
    if settings.cluster.gpu_gb is None:
        return []
    room = place.gpus * GPU_FILLED * settings.cluster.gpu_gb * 1e9 - CUDA_BYTES - model.weights
    most = int(room / token_bytes(model))
    wanted = min(most, settings.generate.batch_size * sequence_tokens(settings))
    if most < sequence_tokens(settings) or wanted / 2 <= settings.generate.batch_tokens <= most:
        return []
    why = f"{token_bytes(model):,} bytes a token; {room / 1e9:.1f} GB beside the weights hold {most:,}"
    return [Proposal("generate.batch_tokens", wanted, why)]


def _blocks(
    settings: JobSettings, work: Mapping[str, Work], places: Mapping[str, _Place], embed: Model
) -> list[Proposal]:
    """Rows of a block: enough blocks that all actors are busy to the last."""
    actors = {"index": places["embed"].actors, "answer": max(place.actors for place in places.values())}
    fewest = max(FEWEST_ROWS, _embed_rows(settings, embed)) if places["embed"].gpus else FEWEST_ROWS
    wanted = min(max(fewest, each.rows // (BLOCKS * actors[flow])) for flow, each in work.items())
    if max(actors[flow] for flow in work) == 1 or wanted >= settings.commit_rows:
        return []
    return [Proposal("commit_rows", wanted, f"at least {BLOCKS} blocks for each actor, so that all end together")]
