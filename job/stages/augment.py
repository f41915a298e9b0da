"""Put the passages into the prompt.

NEEDS  prompt: string; retrieved_texts: list<string>
ADDS   _augmented: string, the user message for the generator
"""

import pyarrow as pa
from tokenizers import Tokenizer

from job import schema
from job.config import Augment
from job.models.files import Source
from job.models.tokenizer import open_tokenizer
from job.stages.rows import add_columns

_ADDS = pa.schema([(schema.AUGMENTED, pa.string())])
_NOTHING = "(no passage found)"
_BETWEEN = "\n\n"


def make(settings: Augment, model: Source) -> "AugmentStage":
    """A stage that measures with the tokenizer of `model`."""
    return AugmentStage(settings, open_tokenizer(model))


class AugmentStage:
    """Fill the template with numbered passages, as many whole ones as `max_context_tokens` holds.

    The best passage is cut to fit when it is longer than that by itself.
    """

    def __init__(self, settings: Augment, tokenizer: Tokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    def __call__(self, prompts: pa.Table) -> pa.Table:
        return add_columns(prompts, _ADDS, self._compute)

    def _compute(self, prompts: pa.Table) -> list[pa.Array]:
        rows = zip(prompts[schema.PROMPT].to_pylist(), prompts["retrieved_texts"].to_pylist(), strict=True)
        filled = [self._settings.template.format(context=self._context(texts), prompt=prompt) for prompt, texts in rows]
        return [pa.array(filled, pa.string())]

    def _context(self, texts: list[str]) -> str:
        limit = room = self._settings.max_context_tokens
        context = ""
        for number, text in enumerate(texts, 1):
            passage = f"{_BETWEEN * (number > 1)}[{number}] {text}"
            encoding = self._tokenizer.encode(passage, add_special_tokens=False)
            room -= len(encoding)
            if room < 0:
                return context or passage[: encoding.offsets[limit][0]].rstrip()
            context += passage
        return context or _NOTHING
