"""Registry of retrieval modes, one line each, the default first; everything else about a mode is in its module."""

from pkgutil import resolve_name

from ragjob.retrieval.base import Mode
from ragjob.retrieval.settings import Retrieval

__all__ = ["MODES", "Mode", "Retrieval"]

_REGISTERED = [
    "ragjob.retrieval.hybrid:Hybrid",
    "ragjob.retrieval.dense:Dense",
    "ragjob.retrieval.lexical:Lexical",
]
MODES: dict[str, type[Mode[Retrieval]]] = {mode.name: mode for mode in map(resolve_name, _REGISTERED)}
