"""Find passages by their meaning and their words: the similarity of embeddings fused with BM25."""

from dataclasses import dataclass
from typing import Literal

from ragjob.retrieval.base import Retriever, Served
from ragjob.retrieval.lexical import ByWords
from ragjob.retrieval.settings import Retrieval
from ragjob.settings import Decides, setting


class HybridRetrieval(Retrieval):
    fusion: Literal["convex", "rrf"] = setting(
        "convex", decides=Decides.RUN, description="convex: weighted sum of both scores; rrf: by reciprocal ranks"
    )
    lexical_weight: float = setting(
        0.2,
        decides=Decides.RUN,
        description="weight of BM25 in convex fusion; the similarity has the rest",
        ge=0,
        le=1,
    )


@dataclass(frozen=True)
class Hybrid(ByWords[HybridRetrieval]):
    name = "hybrid"
    summary = "by the other two, fused"
    Settings = HybridRetrieval

    def make(self, served: Served) -> Retriever:
        from ragjob.retrieval.chroma.search import open_collection  # imports chromadb, which a plan does without
        from ragjob.retrieval.hybrid.retriever import HybridRetriever
        from ragjob.retrieval.lexical.index import open_index

        collection, passages = open_collection(served.target, served.expected), served.files.open()
        index = open_index(served.files, self.settings.language, len(passages))
        sentences = served.sentences.open(passages.first) if served.sentences else None
        return HybridRetriever(collection, index, passages, self.settings, sentences)
