"""The vectors of an index version in a Chroma server: loaded whole, verified, searched."""

from job.store.collection import Expected, Stored, Target, check, collection_name, drop, stored
from job.store.loading import is_loaded, load
from job.store.search import Collection, Hit, open_collection

__all__ = [
    "Collection",
    "Expected",
    "Hit",
    "Stored",
    "Target",
    "check",
    "collection_name",
    "drop",
    "is_loaded",
    "load",
    "open_collection",
    "stored",
]
