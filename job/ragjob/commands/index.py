"""`index`: chunk and embed a corpus into a version; load it if the Chroma server is permanent.

Heavy libraries are imported only if there is work.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from ragjob.commands.report import Report, log_start, logged, report_of_index
from ragjob.commands.setup import set_up
from ragjob.config import JobSettings
from ragjob.ledger.index import current_version
from ragjob.planning.identity import CommittedIndex, PendingIndex, identify_index
from ragjob.retrieval.chroma.settings import lasts
from ragjob.runtime.progress import Observe, silent, tell

if TYPE_CHECKING:
    from ragjob.planning.checks import Plan


@dataclass(frozen=True)
class Index:
    """Chunk and embed the corpus into a version below `index.uri`; load it if the Chroma server is permanent."""

    index: PendingIndex | CommittedIndex
    name: ClassVar[str] = "index"

    @classmethod
    def of(cls, settings: JobSettings) -> Self:
        """The command with these settings. Raises when the corpus, the model or a setting isn't there."""
        set_up(settings)
        return cls(identify_index(settings, cls.name))

    def plan(self) -> "Plan":
        """Check what it needs."""
        from ragjob.planning.checks import plan_index
        from ragjob.runtime.cluster import resources

        return plan_index(self.index, resources(self.index.settings.cluster))

    def execute(self, observe: Observe = silent) -> Report:
        """Do what is left to do."""
        index = self.index
        if isinstance(index, CommittedIndex):
            index.ledger.sweep()
            is_current = current_version(index.ledger.uri) == index.ledger.version
            if is_current and not lasts(index.settings.chroma) and not index.lacks_sentences:
                return replace(report_of_index(self.name, index, []), already_done=True)
        from ragjob.commands.indexing import make_and_load

        log_start(self.name, index.ledger.version)
        tell(observe, "checking the plan")
        plan = self.plan()
        plan.require()
        if isinstance(index, CommittedIndex):
            index.require()
        made, costs = make_and_load(index, plan.size, observe)
        return logged(replace(report_of_index(self.name, made, costs), already_done=made is index and not costs))
