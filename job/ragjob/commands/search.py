"""`search`: what an index finds for one question, without answering it."""

from dataclasses import dataclass
from typing import ClassVar, Self

from ragjob.commands.setup import set_up
from ragjob.config import JobSettings
from ragjob.errors import SettingsError
from ragjob.planning.identity import CommittedIndex, find_index, mode_of
from ragjob.planning.metadata import check_names
from ragjob.retrieval.base import Hit
from ragjob.retrieval.chroma.settings import lasts
from ragjob.retrieval.where import Condition, Where, columns_of, condition_of
from ragjob.runtime.progress import silent

__all__ = ["Hit", "Search"]


@dataclass(frozen=True)
class Search:
    """Find the passages that a prompt would get from the index, before any reranking.

    If sentences are to be used but aren't embedded yet, it does without them.
    """

    index: CommittedIndex
    name: ClassVar[str] = "search"

    @classmethod
    def of(cls, settings: JobSettings) -> Self:
        """The command with these settings. Raises when the index isn't there, or doesn't fit them."""
        set_up(settings)
        return cls(find_index(settings, cls.name))

    def execute(self, question: str) -> list[Hit]:
        """The passages, best first. A permanent server must hold the index already; the job's own is loaded.

        Raises `DataError` when it isn't loaded, `DependencyError` when the server doesn't answer.
        """
        from ragjob.commands.serving import embed_questions, load_missing, prepare, searched, served

        check_names(self.index)
        settings = self.index.settings
        mode, vectors = mode_of(settings), embed_questions(self.index, [question])
        with searched(self.index, silent) as server:
            loaded = served(self.index, server())
            prepare(self.index, silent)
            if not lasts(settings.chroma):
                load_missing(loaded, silent)
            return mode.make(loaded).search([question], vectors, [_condition(settings.retrieve.where)])[0]


def _condition(where: Where) -> Condition | None:
    if columns := columns_of(where):
        raise SettingsError(
            f"retrieve.where: takes values from {', '.join(columns)} of the prompts, but a search has no prompts; "
            "set fixed values with --set"
        )
    return condition_of(where, {}) if where else None
