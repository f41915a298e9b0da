"""Whether the models of a flow and the vectors fit the memory of one machine."""

from collections.abc import Mapping

from ragjob.config import JobSettings
from ragjob.engines import Engine, Generation
from ragjob.errors import SettingsError
from ragjob.models import sizes
from ragjob.models.capacity import Resources
from ragjob.models.files import Source
from ragjob.planning.packing import POOLS, pool
from ragjob.retrieval.chroma.expected import memory_bytes

WORKER_BYTES = 700_000_000  # a Python process with torch, before any weights (measured: 0.5 to 0.7 GB)


def actor_bytes(embedder: Source, engines: list[Engine[Generation]]) -> dict[str, int]:
    """Bytes that an actor of each pool takes beside its process; `engines` is the one that answers, if any."""
    generate = sum(engine.actor_bytes() for engine in engines)
    return {"embed": sizes.weights_bytes(embedder), "retrieve": 0, "generate": generate}


def check_memory(
    settings: JobSettings, flows: list[str], size: Resources, actors: Mapping[str, int], chunks: int, dimension: int
) -> str:
    """Compare a rough sum of models and Chroma with the memory of the one node. Raises `SettingsError`.

    `actors` has the bytes of an actor of each pool, as `actor_bytes` gives them.
    """
    need = {name: pool(settings, name).max * (WORKER_BYTES + held) for name, held in actors.items()}
    vectors = 0 if settings.chroma.url else memory_bytes(chunks, dimension)
    pools = max((POOLS[flow] for flow in flows), key=lambda names: sum(need[name] for name in names), default=[])
    models = sum(need[name] for name in pools)
    line = f"about {(models + vectors) / 1e9:.1f} GB for models and vectors"
    if size.memory and models + vectors > size.memory:
        largest = max(pools, key=need.__getitem__, default="embed")
        raise SettingsError(
            f"{largest}.pool.max: {line}, this machine has {size.memory / 1e9:.1f} GB; "
            "lower it or the pool's batches, take a smaller model, or name a Chroma server elsewhere with chroma.url"
        )
    return line
