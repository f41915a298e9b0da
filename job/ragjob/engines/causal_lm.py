"""What engines that hold a causal language model have in common. Imports neither torch nor vLLM."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from ragjob.engines.base import Engine, S, Surroundings
from ragjob.engines.chat_template import ChatTemplate
from ragjob.errors import DataError, SettingsError
from ragjob.models import sizes
from ragjob.models.capacity import Model, facts
from ragjob.models.files import CONFIG, Source
from ragjob.models.source import resolve

# Read by glibc as a process starts. By itself it returns large blocks to the system as soon as they are free, and has
# them cleared anew: a quarter of the time of an engine on a processor. All threads share one arena, since only that one
# keeps what its threads free.
KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**35)}


@dataclass(frozen=True)
class CausalLMEngine(Engine[S]):
    """An engine that holds the causal language model which `generate.model` names."""

    model: Source

    @classmethod
    def open(cls, settings: S, around: Surroundings) -> Self:
        return cls(settings, around, resolve(settings.model, settings.revision, "generate.model", around.cache))

    @property
    def label(self) -> str:
        return self.model.label

    @cached_property
    def shape(self) -> Model:
        """What decides the model's cost."""
        return facts(self.model)

    @property
    def measure(self) -> Source:
        return self.model

    def facts(self) -> dict[str, object]:
        return {"generate.model": self.model.revision}

    def check_prompt(self) -> str:
        from ragjob.models.tokenizer import open_tokenizer

        if CONFIG not in self.model.files.sizes:
            raise DataError(
                f"generate.model: {self.model.name} isn't a language model, since it has no {CONFIG}; name one"
            )
        passages, answer = self.around.passage_tokens, self.settings.max_new_tokens
        open_tokenizer(self.model)
        self._check_template()
        limit = sizes.context_tokens(self.model)
        if limit and passages + answer >= limit:
            raise SettingsError(
                f"augment.max_context_tokens: {passages} tokens for passages and {answer} for an answer "
                f"(generate.max_new_tokens) leave no room for a question in the {limit} tokens of {self.model.name}; "
                "lower it"
            )
        return f"up to {passages} tokens for passages and {answer} for an answer; the model holds {limit}"

    def _check_template(self) -> None:
        """Render a prompt. Raises `DataError` when the model's chat template refuses it, or writes without end."""
        from ragjob.models.tokenizer import chat_template, special_tokens

        template = chat_template(self.model)
        if template is None:
            return
        try:
            ChatTemplate.of(template, special_tokens(self.model))
        except ValueError as error:
            raise DataError(f"generate.model: {self.model.name}: {error}; correct it, or name another model") from error

    def actor_bytes(self) -> int:
        return sizes.weights_bytes(self.model)

    def environment(self) -> dict[str, str]:
        return {} if self.settings.pool.num_gpus else KEEP_MEMORY


def filling_blocks(sequences: int, rows: int) -> int:
    """How many blocks of `rows` prompts keep `sequences` prompts running: as many as fill the engine, and one more.

    An engine that batches by itself then never runs empty between two blocks.
    """
    return 1 + math.ceil(sequences / rows)
