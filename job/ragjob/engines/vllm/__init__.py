"""Answer with a causal language model in vLLM, which batches by itself."""

from dataclasses import dataclass

import yaml
from pydantic import field_validator

from ragjob.engines.base import Generator
from ragjob.engines.causal_lm import CausalLMEngine, filling_blocks
from ragjob.engines.settings import Generation
from ragjob.engines.vllm import arguments
from ragjob.engines.vllm.arguments import CPU_KV_BYTES, MEMORY_MARGIN, SEQUENCES
from ragjob.errors import SettingsError, yaml_fault
from ragjob.models import sizes
from ragjob.models.capacity import HALF, SINGLE, Place, Resources, Work, one_a_node
from ragjob.models.source import loading
from ragjob.settings import Decides, RepeatedKeyError, parse_yaml, setting

ACTIVATION_BYTES = 1_500_000_000  # what vLLM keeps for a step beside weights and KV cache, about
FEWEST_PROMPTS = 16  # at once, below which an actor gets more GPUs


class VLLMGeneration(Generation):
    vllm: dict[str, object] = setting(
        {}, decides=Decides.RUN, description="further engine arguments for vLLM, under vLLM's names"
    )

    @field_validator("vllm", mode="before")
    @classmethod
    def _typed(cls, given: object) -> object:
        """Read what variables and assignments give as text: nothing but vLLM knows its types."""
        try:
            given = parse_yaml(given) if isinstance(given, str) else given
            if isinstance(given, dict):
                return {name: parse_yaml(v) if isinstance(v, str) else v for name, v in given.items()}
        except RepeatedKeyError as error:
            raise ValueError(f"not valid YAML: {error}") from error
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"not valid YAML: {yaml_fault(error)}") from error
        return given


@dataclass(frozen=True)
class VLLM(CausalLMEngine[VLLMGeneration]):
    name = "vllm"
    summary = "a causal LM, with continuous batching"
    Settings = VLLMGeneration
    LEFT_OUT = CausalLMEngine.LEFT_OUT | {"vllm"}  # `facts` has those of its arguments that may change answers

    def facts(self) -> dict[str, object]:
        return super().facts() | {"generate.vllm": arguments.deciding(self.settings.vllm)}

    def check(self) -> str:
        arguments.check_arguments(self.settings.vllm, self.settings.pool.num_gpus)
        return f"vllm, {self._check_sequences()}"

    def _check_sequences(self) -> str:
        """How many prompts the KV cache holds at once, each with its answer. Raises when that is none."""
        gpus, dtype = self.settings.pool.num_gpus, self.settings.dtype
        single = dtype == "float32" or (dtype == "auto" and not gpus)
        token = sizes.kv_bytes_a_token(self.model, SINGLE if single else HALF)
        if token is None:
            return f"{self.model.name} doesn't say how large its KV cache is"
        room = self.kv_cache_bytes(gpus, sizes.weights_bytes(self.model))
        if room is None:
            return f"{token:,} bytes of KV cache per token; state the GPUs' gpu_gb to see how many prompts fit"
        tokens = self.sequence_tokens
        fit = int(room / (token * tokens))
        if fit < 1:
            key = "generate.pool.num_gpus" if gpus else "generate.vllm.kv_cache_memory_bytes"
            raise SettingsError(
                f"{key}: leaves {max(room, 0) / 1e9:.1f} GB for the KV cache of {self.model.name} beside its weights, "
                f"and one prompt takes {token * tokens / 1e6:,.0f} MB ({tokens:,} tokens of {token:,} bytes); "
                "raise generate.pool.num_gpus, or lower augment.max_context_tokens"
            )
        return (
            f"about {fit:,} prompts of {tokens:,} tokens fit its {room / 1e9:.1f} GB of KV cache; "
            f"at most {self._sequences} at once"
        )

    @property
    def _sequences(self) -> int:
        return int(self._number("max_num_seqs", None) or SEQUENCES)

    def _number(self, name: str, default: float | None) -> float | None:
        """An engine argument that is a number; `default` where it isn't given, or isn't one."""
        value = self.settings.vllm.get(name)
        return value if isinstance(value, int | float) else default

    def kv_cache_bytes(self, gpus: float, weights: int) -> float | None:
        """Bytes that an actor with `gpus` GPUs has for its KV cache; None where the GPUs' memory isn't known."""
        gpu_gb = self.around.gpu_gb
        stated = self._number("kv_cache_memory_bytes", None if gpus else CPU_KV_BYTES)
        if stated is not None or gpu_gb is None:
            return stated
        share = self._number("gpu_memory_utilization", None) or min(gpus, 1) * MEMORY_MARGIN
        whole = max(1, int(gpus))
        return float(whole * (gpu_gb * 1e9 * share - ACTIVATION_BYTES) - weights)

    def actor_bytes(self) -> int:
        held, gpus = super().actor_bytes(), self.settings.pool.num_gpus
        return held if gpus else held + int(self.kv_cache_bytes(0, 0) or 0)

    def place(self, size: Resources, work: Work) -> Place:
        if not size.gpus:
            return one_a_node(size, work)
        whole = self._gpus_an_actor(size)
        actors = sum(group.max * (group.gpus // whole) for group in size.groups) or 1
        why = f"{whole} of {size.gpus} GPUs for each actor: {self.shape.weights / 1e9:.1f} GB of weights"
        return Place(min(actors, work.units), whole, why)

    def _gpus_an_actor(self, size: Resources) -> int:
        """The fewest GPUs of one node that hold the weights and some prompts, else those set; one where unknown."""
        model = self.shape
        need = FEWEST_PROMPTS * self.sequence_tokens * (model.kv_token or 0)
        counts = [1 << power for power in range(max(group.gpus for group in size.groups).bit_length())]
        rooms = {count: self.kv_cache_bytes(count, model.weights) for count in counts}
        stated = max(1, int(self.settings.pool.num_gpus))
        return next((count for count, room in rooms.items() if room is None or room >= need), stated)

    def blocks_at_once(self, rows: int) -> int:
        return filling_blocks(self._sequences, rows)

    def make(self, dtype: str, threads: int) -> Generator:
        from ragjob.engines.vllm.generator import VLLMEngine

        settings = self.settings
        with loading(self.model) as folder:
            return VLLMEngine(
                folder,
                dtype=settings.dtype,
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                threads=threads,
                gpus=settings.pool.num_gpus,
                arguments=settings.vllm,
            )
