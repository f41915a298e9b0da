"""`load`: load a committed index version into Chroma, and make it the current one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from ragjob.commands.report import Report, log_start, logged
from ragjob.commands.setup import set_up
from ragjob.config import JobSettings
from ragjob.ledger.index import set_current
from ragjob.planning.identity import CommittedIndex, find_index
from ragjob.runtime.progress import Observe, silent, tell

if TYPE_CHECKING:
    from ragjob.planning.checks import Plan


@dataclass(frozen=True)
class Load:
    """Load a committed index version into a permanent Chroma server, and verify it there."""

    index: CommittedIndex
    name: ClassVar[str] = "load"

    @classmethod
    def of(cls, settings: JobSettings) -> Self:
        """The command with these settings. Raises when the index isn't there, or doesn't fit them."""
        set_up(settings)
        return cls(find_index(settings, cls.name))

    def plan(self) -> "Plan":
        """Check what it needs."""
        from ragjob.planning.checks import plan_load
        from ragjob.runtime.cluster import resources

        return plan_load(self.index, resources(self.index.settings.cluster))

    def execute(self, observe: Observe = silent) -> Report:
        """Load it, whatever the server already holds."""
        from ragjob.commands.serving import load_all, served, serving

        index = self.index
        index.ledger.sweep()
        log_start(self.name, index.ledger.version)
        tell(observe, "checking the plan")
        self.plan().require()
        index.require()
        with serving(index.settings.chroma, observe) as server:
            cost = load_all(served(index, server()), observe)
        set_current(index.ledger.uri, index.ledger.version)
        return logged(Report(self.name, index.ledger.version, rows=index.chunks, errors=0, costs=[cost]))
