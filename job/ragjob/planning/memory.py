"""Whether the models of a flow and the vectors fit the memory of the nodes that they may be placed on."""

from collections import Counter
from collections.abc import Mapping

from ragjob.config import JobSettings
from ragjob.engines import Engine, Generation
from ragjob.errors import SettingsError
from ragjob.models import sizes
from ragjob.models.capacity import Resources
from ragjob.models.files import Source
from ragjob.planning.identity import mode_of
from ragjob.planning.packing import Node, pack, pool, pools
from ragjob.retrieval.chroma.expected import memory_bytes

WORKER_BYTES = 700_000_000  # a Python process with torch, before any weights (measured: 0.5 to 0.7 GB)


def actor_bytes(embedder: Source, engines: list[Engine[Generation]], reranker: Source | None = None) -> dict[str, int]:
    """Bytes that an actor of each pool takes in addition to its process; `engines` has the one that answers, if any."""
    generate = sum(engine.actor_bytes() for engine in engines)
    rerank = sizes.weights_bytes(reranker) if reranker else 0
    return {"embed": sizes.weights_bytes(embedder), "retrieve": 0, "rerank": rerank, "generate": generate}


def check_memory(
    settings: JobSettings, flows: list[str], size: Resources, actors: Mapping[str, int], chunks: int, dimension: int
) -> str:
    """Compare a rough sum of models and Chroma with the memory of the nodes. Raises `SettingsError`.

    `actors` has the bytes of an actor of each pool, as `actor_bytes` gives them. A Chroma server of the job's own runs
    beside them, on the one node.
    """
    bytes_per_actor = {name: WORKER_BYTES + held for name, held in actors.items()}
    mode = mode_of(settings)
    bytes_per_actor["retrieve"] += mode.actor_bytes(chunks)
    vectors = 0 if settings.chroma.url or not mode.asks_chroma else memory_bytes(chunks, dimension)
    placed = [node for flow in flows for nodes in pack(settings, flow, size).placements for node in nodes]
    for node in placed or [Node(group, group.cpus, []) for group in size.groups]:
        models = Counter({name: bytes_per_actor[name] * count for name, count in Counter(node.actors).items()})
        taken = models.total() + vectors
        if node.group.memory and taken > node.group.memory:
            largest = max(models, key=models.__getitem__, default="embed")
            raise SettingsError(
                f"{largest}.pool.max: about {taken / 1e9:.1f} GB for models and vectors, but a node has "
                f"{node.group.memory / 1e9:.1f} GB; lower it or the pool's batch size, use a smaller model, "
                "name a group of larger nodes in the pool's group, or use another Chroma server with chroma.url"
            )
    most = max(
        (sum(pool(settings, name).max * bytes_per_actor[name] for name in pools(settings, flow)) for flow in flows),
        default=0,
    )
    files = mode.file_bytes(chunks, dimension)
    return (
        f"about {(most + vectors) / 1e9:.1f} GB for models and vectors; "
        f"the index's files take about {files / 1e9:.1f} GB of disk on each node"
    )
