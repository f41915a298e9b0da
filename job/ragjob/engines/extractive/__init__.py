"""Answer with the passages' own sentences: no weights but the embedder's."""

from dataclasses import dataclass

from ragjob.engines.base import Engine, Generator
from ragjob.engines.settings import Generation
from ragjob.models import sizes


@dataclass(frozen=True)
class Extractive(Engine[Generation]):
    name = "extractive"
    summary = "the best matching sentences"
    LEFT_OUT = Engine.LEFT_OUT | {"max_new_tokens", "temperature"}

    @property
    def label(self) -> str:
        return f"extractive:{self.around.embedder.label}"

    def actor_bytes(self) -> int:
        return sizes.weights_bytes(self.around.embedder)

    def make(self, dtype: str, threads: int) -> Generator:
        from ragjob.engines.extractive.generator import ExtractiveGenerator
        from ragjob.models.embedder import open_embedder
        from ragjob.models.tokenizer import open_tokenizer

        around = self.around
        embedder = open_embedder(around.embed, around.embedder, dtype, threads, self.settings.pool.num_gpus)
        return ExtractiveGenerator(embedder, open_tokenizer(around.embedder))
