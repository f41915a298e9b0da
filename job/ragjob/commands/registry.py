"""The commands that do work, by name."""

from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from ragjob.commands.answer import Answer
from ragjob.commands.index import Index
from ragjob.commands.load import Load
from ragjob.commands.report import Report
from ragjob.commands.run import Run
from ragjob.config import JobSettings
from ragjob.runtime.progress import Observe

if TYPE_CHECKING:
    from ragjob.planning.checks import Plan


class Command(Protocol):
    """A command with its inputs, as listings and manifests describe them."""

    name: ClassVar[str]

    @classmethod
    def of(cls, settings: JobSettings) -> Self:
        """The command with these settings. Raises when something that it needs isn't there."""
        ...

    def plan(self) -> "Plan":
        """Check what it needs."""
        ...

    def execute(self, observe: Observe = ...) -> Report:
        """Do what is left to do."""
        ...


COMMANDS: dict[str, type[Command]] = {command.name: command for command in (Index, Load, Answer, Run)}
