"""Find passages by the cosine similarity of their embeddings to the question's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragjob.retrieval.base import Hit, Mode, Retriever, Vectors
from ragjob.retrieval.chroma.expected import Expected, Target
from ragjob.retrieval.settings import Retrieval

if TYPE_CHECKING:
    from ragjob.retrieval.chroma.search import Collection


@dataclass(frozen=True)
class Dense(Mode[Retrieval]):
    name = "dense"
    summary = "by cosine similarity of embeddings"

    def make(self, target: Target, expected: Expected) -> Retriever:
        from ragjob.retrieval.chroma.search import open_collection  # imports chromadb, which a plan does without

        return DenseRetriever(open_collection(target, expected), self.settings)


class DenseRetriever:
    """Searches one Chroma collection."""

    def __init__(self, collection: "Collection", settings: Retrieval) -> None:
        self._collection = collection
        self._settings = settings

    def search(self, questions: list[str], vectors: Vectors) -> list[list[Hit]]:
        settings = self._settings
        return self._collection.search(vectors, settings.top_k, settings.min_score, settings.batch_size)
