"""The base of every mode of retrieval: what a plan asks it, and what it runs in a worker."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.settings import Retrieval
from ragjob.retrieval.where import Condition
from ragjob.settings import Decides

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ragjob.ledger.derived import SegmentFiles
    from ragjob.ledger.passages import Passage
    from ragjob.ledger.schema import Sentence
    from ragjob.ledger.sentences import SentenceFiles

Vectors: TypeAlias = "npt.NDArray[np.float32]"


class Hit(NamedTuple):
    """A passage for a question; `score` is what it was ranked by, best first.

    `similarity` is the cosine similarity of its embedding and the question's, in [-1, 1]; `bm25` is its score in the
    lexical index, or None in a mode that has none. `sentences` are those of the passage, none if it has only one, and
    None if sentences aren't embedded.
    """

    passage: "Passage"
    score: float
    similarity: float
    bm25: float | None = None
    sentences: "list[Sentence] | None" = None


@dataclass(frozen=True)
class Served:
    """An index version as it is searched: its collection on a Chroma server, and the files of its segment.

    The server only says which rows are near: their texts and similarities come from the files, and a row that they
    don't have is dropped. `sentences` are the files of the rows' sentences, where these are to be used.
    """

    target: Target
    expected: Expected
    files: "SegmentFiles"
    sentences: "SentenceFiles | None" = None


class Retriever(Protocol):
    """What a mode runs in its workers. Any number of threads may search at once."""

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        """Passages for each question, whose embeddings are `vectors` (float32 [n, dimension]), best first.

        All of them pass the question's condition, where it has one. The names of metadata in conditions are those of
        the setting `where`.

        Raises `DependencyError` when a server that is searched doesn't answer within its deadline.
        """
        ...


# Of a chunk of up to 250 tokens of English (measured on 2,589): its text with ids, and its sentences.
TEXT_BYTES, SENTENCES_A_CHUNK = 800, 4
S = TypeVar("S", bound=Retrieval)


@dataclass(frozen=True)
class Mode(ABC, Generic[S]):
    """One way to find passages, with all that is known about it before it runs. Imports no heavy library."""

    name: ClassVar[str]
    summary: ClassVar[str]  # completes its name in the settings' table
    Settings: ClassVar[type[Retrieval]] = Retrieval
    asks_chroma: ClassVar[bool] = True  # or it does without the server, and nothing is loaded

    settings: S

    def deciding(self) -> dict[str, object]:
        """The settings that decide which passages are found, by name."""
        values = self.settings.deciding(Decides.RUN)
        return {name: value for name, value in values.items() if name in self.Settings.model_fields}

    @property
    def uses_sentences(self) -> bool:
        """Whether it searches the vectors of sentences, too."""
        return self.asks_chroma and self.settings.sentences

    def actor_bytes(self, chunks: int) -> int:
        """About how much memory a worker takes for an index of that many chunks, besides the files that it maps."""
        return 0

    def file_bytes(self, chunks: int, dimension: int) -> int:
        """About how large the files are that a node maps for an index of that many chunks."""
        vectors = 1 + (SENTENCES_A_CHUNK if self.uses_sentences else 0)
        return chunks * (TEXT_BYTES + 2 * dimension * vectors)

    def prepare(self, files: "SegmentFiles") -> bool:
        """Build what it searches besides the version's own files, unless that is there. Returns whether it was built.

        Raises `DependencyError` when storage or disk fails.
        """
        return False

    @abstractmethod
    def make(self, served: Served) -> Retriever:
        """Make what searches in a worker, once the collection is known to be whole and the right one.

        Raises `DataError` when it isn't loaded whole, `DependencyError` when the server doesn't answer.
        """
