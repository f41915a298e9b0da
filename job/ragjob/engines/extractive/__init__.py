"""Answer with the passages' own sentences. The embedder is used only if the index lacks their vectors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragjob.engines.base import Engine, Generator
from ragjob.engines.settings import Generation
from ragjob.models import sizes

if TYPE_CHECKING:
    from ragjob.models.embedder import Embedder


@dataclass(frozen=True)
class Extractive(Engine[Generation]):
    name = "extractive"
    summary = "the best matching sentences"
    LEFT_OUT = Engine.LEFT_OUT | {"max_new_tokens", "temperature"}

    @property
    def label(self) -> str:
        return f"extractive:{self.around.embedder.label}"

    def actor_bytes(self) -> int:
        return 0 if self.around.sentences else sizes.weights_bytes(self.around.embedder)

    def make(self, dtype: str, threads: int) -> Generator:
        from ragjob.engines.extractive.generator import ExtractiveGenerator
        from ragjob.models.tokenizer import open_tokenizer
        from ragjob.retrieval.lexical.tokens import Tokenizer

        around, gpus = self.around, self.settings.pool.num_gpus

        def open_model() -> "Embedder":
            from ragjob.models.embedder import open_embedder  # imports torch

            return open_embedder(around.embed, around.embedder, dtype, threads, gpus)

        return ExtractiveGenerator(open_model, open_tokenizer(around.embedder), Tokenizer(around.language).terms)
