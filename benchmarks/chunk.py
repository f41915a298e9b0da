"""Chunking on one core: the whole stage against the tokenizer alone, against a library, and as a text grows.

The library is semantic-text-splitter with the tokenizer as its measure; both cut the first 50,000 characters. The
figure is left out where it isn't installed. A run begins without the tokens of any word known: how often words come
again decides how fast it is. RAGJOB_BENCH_CORPUS names a text file to take instead of one made of the sample, whose
words come again more often than those of a book.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer

from benchmarks.figures import Figure, compare, seconds
from benchmarks.jobs import MODEL, novel
from ragjob.documents.chunking import WordCounter
from ragjob.documents.settings import Chunk
from ragjob.documents.vocabulary import Vocabulary
from ragjob.ledger import schema
from ragjob.models.folder import find_package
from ragjob.models.tokenizer import count_tokens, open_tokenizer
from ragjob.stages.chunk import ChunkStage

LIBRARY = "semantic_text_splitter"
LIBRARY_CHARS = 50_000
WORDS = 10_000, 100_000  # of texts that have no word twice
SIZES = Chunk()


def figures(folder: Path) -> Iterator[Figure]:
    """MB of text in a second."""
    text = (novel(folder) / "0.txt").read_text("utf-8")
    speeds = Speeds(text, open_tokenizer(find_package(MODEL, "embed.model")))
    alone = (speeds.tokenizer_alone, "the tokenizer alone, a line at a time")
    yield compare("chunks by tokens", "MB/s", speeds.by_tokens, *alone, runs=5, at_least=0.7)
    yield compare("chunks by line", "MB/s", speeds.by_line, *alone, runs=5)
    if find_spec(LIBRARY):
        short = Speeds(text[:LIBRARY_CHARS], speeds.tokenizer)
        yield compare("chunks by tokens", "MB/s", short.by_tokens, short.library, LIBRARY, at_least=4)
    distinct, longer = (
        Speeds("\n".join(schema.digest(number) for number in range(words)), speeds.tokenizer) for words in WORDS
    )
    yield compare("no word twice", "MB/s", distinct.by_tokens, distinct.tokenizer_alone, alone[1], runs=5)
    both = longer.by_tokens, distinct.by_tokens
    yield compare("no word twice, a longer text", "MB/s", *both, "shorter", runs=5, at_least=0.9)


@dataclass(frozen=True)
class Speeds:
    """MB/s of several ways to go through one document."""

    document: str
    tokenizer: Tokenizer

    def by_tokens(self) -> float:
        return self._chunk(ChunkStage(SIZES, WordCounter(self.tokenizer), Vocabulary(self.tokenizer)))

    def by_line(self) -> float:
        return self._chunk(ChunkStage(Chunk(strategy="line"), None, Vocabulary(self.tokenizer)))

    def tokenizer_alone(self) -> float:
        # Lines given together would be spread over all cores.
        lines = self.document.split("\n")
        return rate(self.document, lambda: [count_tokens(self.tokenizer, [line]) for line in lines])

    def library(self) -> float:
        from semantic_text_splitter import TextSplitter

        splitter = TextSplitter.from_huggingface_tokenizer(self.tokenizer, SIZES.size, SIZES.overlap)
        return rate(self.document, lambda: splitter.chunks(self.document))

    def _chunk(self, stage: ChunkStage) -> float:
        row = {schema.DOCUMENT_ID: "document", schema.URI: "uri", schema.TEXT: self.document}
        documents = pa.Table.from_pylist([row], schema.READ)
        return rate(self.document, lambda: stage(documents))


def rate(text: str, work: Callable[[], object]) -> float:
    """MB of `text` in a second of `work`."""
    return len(text.encode()) / 1e6 / seconds(work)
