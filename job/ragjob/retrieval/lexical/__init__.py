"""Find passages by the words that they share with the question."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragjob.retrieval.base import Mode, Retriever, S, Served
from ragjob.retrieval.settings import Retrieval

if TYPE_CHECKING:
    from ragjob.ledger.derived import SegmentFiles

# Of a worker: a passage's share of the terms, and its scores for the questions of four blocks at once.
CHUNK_BYTES = 200
INDEXED_BYTES = 600  # of the file, for a chunk of up to 250 tokens of English (measured on 2,589)


class ByWords(Mode[S]):
    """What all modes that search the lexical index have in common."""

    def actor_bytes(self, chunks: int) -> int:
        return CHUNK_BYTES * chunks

    def file_bytes(self, chunks: int, dimension: int) -> int:
        return super().file_bytes(chunks, dimension) + INDEXED_BYTES * chunks

    def prepare(self, files: "SegmentFiles") -> bool:
        from ragjob.retrieval.lexical.index import prepare

        return prepare(files, self.settings.language)


@dataclass(frozen=True)
class Lexical(ByWords[Retrieval]):
    name = "lexical"
    summary = "by words (BM25)"
    asks_chroma = False

    def make(self, served: Served) -> Retriever:
        from ragjob.retrieval.lexical.index import open_index
        from ragjob.retrieval.lexical.retriever import LexicalRetriever

        passages = served.files.open()
        index = open_index(served.files, self.settings.language, len(passages))
        return LexicalRetriever(index, passages, self.settings)
