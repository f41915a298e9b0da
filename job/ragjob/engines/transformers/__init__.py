"""Answer with a causal language model that transformers loads, in batches of prompts of about equal length."""

from dataclasses import dataclass

from ragjob.engines.base import Generator
from ragjob.engines.causal_lm import CausalLMEngine
from ragjob.engines.settings import Generation
from ragjob.models import sizes
from ragjob.models.capacity import CUDA_BYTES, HALF, SINGLE, Place, Proposal, token_bytes
from ragjob.models.source import loading
from ragjob.settings import Decides, setting

GPU_FILLED = 0.9  # of an actor's share, at most: what is freed leaves gaps


class TransformersGeneration(Generation):
    batch_size: int = setting(
        64, decides=Decides.NEITHER, description="at most this many prompts in one batch, for transformers", ge=1
    )
    batch_tokens: int = setting(
        32_768,
        decides=Decides.NEITHER,
        description="at most this many tokens of prompts and answers in one batch, for transformers; limits memory",
        ge=1,
    )


@dataclass(frozen=True)
class Transformers(CausalLMEngine[TransformersGeneration]):
    name = "transformers"
    summary = "a causal LM, in batches"
    Settings = TransformersGeneration

    def actor_bytes(self) -> int:
        held = super().actor_bytes()
        return held if self.settings.pool.num_gpus else held + self._batch_bytes()

    def _batch_bytes(self) -> int:
        """Bytes that a batch takes on a processor, at most, in single precision."""
        tokens = min(self.settings.batch_tokens, self.settings.batch_size * self.sequence_tokens)
        cached = sizes.kv_bytes_a_token(self.model, SINGLE)
        return tokens * token_bytes(sizes.dimension(self.model), SINGLE, cached)

    def proposals(self, place: Place) -> list[Proposal]:
        """Tokens of a batch that fill the memory which the weights leave on a GPU."""
        model, gpu_gb = self.shape, self.around.gpu_gb
        if not (place.gpus and model.kv_token and gpu_gb):
            return []
        room = place.gpus * GPU_FILLED * gpu_gb * 1e9 - CUDA_BYTES - model.weights
        token = token_bytes(model.width, HALF, model.kv_token)
        most = int(room / token)
        wanted = min(most, self.settings.batch_size * self.sequence_tokens)
        if most < self.sequence_tokens or wanted / 2 <= self.settings.batch_tokens <= most:
            return []
        why = f"{token:,} bytes per token; the {room / 1e9:.1f} GB beside the weights hold {most:,} tokens"
        return [Proposal("generate.batch_tokens", wanted, why)]

    def make(self, dtype: str, threads: int) -> Generator:
        from ragjob.engines.transformers.generator import CausalLM

        settings = self.settings
        with loading(self.model) as folder:
            return CausalLM(
                folder,
                dtype=settings.dtype,
                batch_size=settings.batch_size,
                batch_tokens=settings.batch_tokens,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                threads=threads,
                gpus=settings.pool.num_gpus,
            )
