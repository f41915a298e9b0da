"""The vectors of an index version in a Chroma server: loaded whole, verified, searched."""

from job.store.collection import Expected, Target, check, collection_name
from job.store.loading import is_loaded, load
from job.store.search import Collection, Hit, open_collection

__all__ = [
    "Collection",
    "Expected",
    "Hit",
    "Target",
    "check",
    "collection_name",
    "is_loaded",
    "load",
    "open_collection",
]
