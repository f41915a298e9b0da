"""`answer`: answer prompts from a committed index version. Heavy libraries are imported only if there is work."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from ragjob.commands.report import Report, report_of_run
from ragjob.commands.setup import set_up
from ragjob.config import JobSettings, require
from ragjob.planning.identity import AnswerTask, CommittedIndex, find_index, identify_run
from ragjob.runtime.progress import Observe, silent

if TYPE_CHECKING:
    from ragjob.planning.checks import Plan


@dataclass(frozen=True)
class Answer:
    """Answer the prompts from a committed index version: one row per prompt in one `answers.parquet`."""

    index: CommittedIndex
    task: AnswerTask
    name: ClassVar[str] = "answer"

    @classmethod
    def of(cls, settings: JobSettings) -> Self:
        """The command with these settings. Raises when an input, a model or the index isn't there, or doesn't fit."""
        set_up(settings)
        require(settings, cls.name, "prompts.uri", "index.uri", "output.uri")
        index = find_index(settings, cls.name)
        return cls(index, identify_run(settings, cls.name, index.ledger.version, index.embedder))

    def plan(self) -> "Plan":
        """Check what it needs."""
        from ragjob.planning.checks import plan_answer
        from ragjob.runtime.cluster import resources

        return plan_answer(self.index, self.task, resources(self.index.settings.cluster))

    def execute(self, observe: Observe = silent) -> Report:
        """Do what is left to do."""
        self.index.ledger.sweep()
        if published := self.task.ledger.published():
            return report_of_run(self.name, self.index, self.task, published, already_done=True)
        from ragjob.commands.answering import answer

        return answer(self.name, self.index, self.task, self.plan, observe, make_current=False)
