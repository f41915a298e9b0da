"""What is committed and what is left to do."""

from job.ledger.index import IndexLedger, IndexManifest, Part, current_version, set_current, versions
from job.ledger.run import Mask, RunLedger, RunManifest, claimed_versions, is_published, remove_staging, staging

__all__ = [
    "IndexLedger",
    "IndexManifest",
    "Mask",
    "Part",
    "RunLedger",
    "RunManifest",
    "claimed_versions",
    "current_version",
    "is_published",
    "remove_staging",
    "set_current",
    "staging",
    "versions",
]
