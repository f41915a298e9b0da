"""Find passages by the cosine similarity of their embeddings to the question's."""

from dataclasses import dataclass

from ragjob.retrieval.base import Mode, Retriever, Served
from ragjob.retrieval.settings import Retrieval


@dataclass(frozen=True)
class Dense(Mode[Retrieval]):
    name = "dense"
    summary = "by cosine similarity of embeddings"

    def make(self, served: Served) -> Retriever:
        from ragjob.retrieval.chroma.search import open_collection  # imports chromadb, which a plan does without
        from ragjob.retrieval.dense.retriever import DenseRetriever

        collection = open_collection(served.target, served.expected)
        passages = served.files.open()
        sentences = served.sentences.open(passages.first) if served.sentences else None
        return DenseRetriever(collection, passages, self.settings, sentences)
