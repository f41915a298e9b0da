"""Registry of engines, one line each, the default first; everything else about an engine is in its package."""

from pkgutil import resolve_name

from ragjob.engines.base import Engine
from ragjob.engines.settings import Generation

__all__ = ["ENGINES", "Engine", "Generation"]

_REGISTERED = [
    "ragjob.engines.extractive:Extractive",
    "ragjob.engines.transformers:Transformers",
    "ragjob.engines.vllm:VLLM",
    "ragjob.engines.openai:OpenAIEngine",
]
ENGINES: dict[str, type[Engine[Generation]]] = {engine.name: engine for engine in map(resolve_name, _REGISTERED)}
