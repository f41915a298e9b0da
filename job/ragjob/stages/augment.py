"""Put the passages into the prompt."""

import pyarrow as pa
from tokenizers import Tokenizer

from ragjob import schema
from ragjob.documents.graphemes import cut
from ragjob.models.files import Source
from ragjob.models.tokenizer import open_tokenizer
from ragjob.stages.columns import Stage
from ragjob.stages.rows import Columns, add_columns, arrays, foreign
from ragjob.stages.settings import Augment

_NOTHING = "(no passage found)"
_BETWEEN = "\n\n"
CHARS_PER_TOKEN = 8  # of all passages, on average: what a tokenizer doesn't know is one token, however long it is


def make(settings: Augment, model: Source) -> "AugmentStage":
    """A stage that measures with the tokenizer of `model`."""
    return AugmentStage(settings, open_tokenizer(model))


class AugmentStage(Stage):
    """Fill the template with numbered passages, as many whole ones as `max_context_tokens` holds.

    That limits their characters, too, to `CHARS_PER_TOKEN` for each token. The best passage is cut to fit when it is
    longer than that by itself. The column `_augmented` has the user message for the generator.
    """

    NAME = "augment"
    NEEDS = schema.columns(schema.PROMPT, schema.RETRIEVED_TEXTS, schema.ERROR)
    ADDS = schema.columns(schema.AUGMENTED)

    def __init__(self, settings: Augment, tokenizer: Tokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    def __call__(self, prompts: pa.Table) -> pa.Table:
        return add_columns(prompts, self.ADDS, self._compute)

    def _compute(self, prompts: pa.Table) -> Columns:
        rows = prompts.select([schema.PROMPT, schema.RETRIEVED_TEXTS]).to_pylist()
        filled = [self._fill(row[schema.PROMPT], row[schema.RETRIEVED_TEXTS]) for row in rows]
        return arrays({schema.AUGMENTED: filled}, self.ADDS)

    def _fill(self, prompt: str, passages: list[str]) -> str:
        context = self._context(passages)
        with foreign():
            return self._settings.template.format(context=context, prompt=prompt)

    def _context(self, texts: list[str]) -> str:
        limit = room = self._settings.max_context_tokens
        context = ""
        for number, text in enumerate(texts, 1):
            passage = f"{_BETWEEN * (number > 1)}[{number}] {text}"
            if len(context) + len(passage) > CHARS_PER_TOKEN * limit:
                return context or self._cut(passage)
            with foreign():
                room -= len(self._tokenizer.encode(passage, add_special_tokens=False))
            if room < 0:
                return context or self._cut(passage)
            context += passage
        return context or _NOTHING

    def _cut(self, passage: str) -> str:
        """The beginning of `passage` that fits by itself."""
        limit = self._settings.max_context_tokens
        start = cut(passage, CHARS_PER_TOKEN * limit)
        with foreign():
            encoding = self._tokenizer.encode(start, add_special_tokens=False)
        return (cut(start, encoding.offsets[limit][0]) if len(encoding) > limit else start).rstrip()
