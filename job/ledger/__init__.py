"""What is committed and what is left to do."""

from job.ledger.index import IndexLedger, IndexManifest, Part, current_version, set_current
from job.ledger.run import Mask, RunLedger, RunManifest

__all__ = ["IndexLedger", "IndexManifest", "Mask", "Part", "RunLedger", "RunManifest", "current_version", "set_current"]
