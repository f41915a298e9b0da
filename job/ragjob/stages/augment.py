"""Put the passages into the prompt."""

from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer

from ragjob.documents.graphemes import cut
from ragjob.ledger import schema
from ragjob.models.files import Source
from ragjob.models.tokenizer import open_tokenizer
from ragjob.stages.columns import Stage
from ragjob.stages.rows import Columns, add_columns, arrays, foreign
from ragjob.stages.settings import Augment

_NOTHING = "(no passage found)"
_BETWEEN = "\n\n"
_SOURCES = [schema.RETRIEVED_DOCUMENT_IDS, schema.RETRIEVED_TITLES, schema.RETRIEVED_PAGES]
CHARS_PER_TOKEN = 8  # of all passages, on average: what a tokenizer doesn't know is one token, however long it is


def make(settings: Augment, model: Source) -> "AugmentStage":
    """A stage that counts tokens with the tokenizer of `model`."""
    return AugmentStage(settings, open_tokenizer(model))


class AugmentStage(Stage):
    """Fill the template with numbered passages, as many whole ones as `max_context_tokens` holds.

    That limits their characters, too, to `CHARS_PER_TOKEN` for each token. The best passage is cut to fit when it is
    longer than that by itself. The column `_augmented` has the user message for the generator, `_given` the number of
    passages in it.
    """

    NAME = "augment"
    NEEDS = schema.columns(schema.PROMPT, *_SOURCES, schema.RETRIEVED_TEXTS, schema.ERROR)
    ADDS = schema.columns(schema.AUGMENTED, schema.GIVEN)

    def __init__(self, settings: Augment, tokenizer: Tokenizer) -> None:
        self._settings = settings
        self._tokenizer = tokenizer

    def __call__(self, prompts: pa.Table) -> pa.Table:
        return add_columns(prompts, self.ADDS, self._compute)

    def _compute(self, prompts: pa.Table) -> Columns:
        contexts = [self._context(self._passages(row)) for row in prompts.select(self.NEEDS.names).to_pylist()]
        pairs = zip(prompts[schema.PROMPT].to_pylist(), contexts, strict=True)
        filled = [self._fill(prompt, "".join(given) or _NOTHING) for prompt, given in pairs]
        return arrays({schema.AUGMENTED: filled, schema.GIVEN: list(map(len, contexts))}, self.ADDS)

    def _fill(self, prompt: str, context: str) -> str:
        with foreign():
            return self._settings.template.format(context=context, prompt=prompt)

    def _passages(self, row: dict[str, Any]) -> list[str]:
        """The passages of a prompt as they appear in it."""
        texts = row[schema.RETRIEVED_TEXTS]
        if self._settings.sources:
            about = (
                row[name] for name in (schema.RETRIEVED_DOCUMENT_IDS, schema.RETRIEVED_TITLES, schema.RETRIEVED_PAGES)
            )
            texts = [f"({source(*of_text)}) {text}" for *of_text, text in zip(*about, texts, strict=True)]
        return [f"{_BETWEEN * (number > 1)}[{number}] {text}" for number, text in enumerate(texts, 1)]

    def _context(self, passages: list[str]) -> list[str]:
        """Those of `passages` that fit."""
        limit = room = self._settings.max_context_tokens
        given: list[str] = []
        chars = 0
        for passage in passages:
            chars += len(passage)
            if chars <= CHARS_PER_TOKEN * limit:
                with foreign():
                    room -= len(self._tokenizer.encode(passage, add_special_tokens=False))
            if chars > CHARS_PER_TOKEN * limit or room < 0:
                return given or [self._cut(passage)]
            given.append(passage)
        return given

    def _cut(self, passage: str) -> str:
        """The beginning of `passage` that fits by itself."""
        limit = self._settings.max_context_tokens
        start = cut(passage, CHARS_PER_TOKEN * limit)
        with foreign():
            encoding = self._tokenizer.encode(start, add_special_tokens=False)
        return (cut(start, encoding.offsets[limit][0]) if len(encoding) > limit else start).rstrip()


def source(document_id: str, title: str | None, page: int | None) -> str:
    """What a prompt calls a passage's source.

    >>> source("reports/2031.pdf", "Annual report", 3), source("notes.txt", None, None)
    ('Annual report, page 3', 'notes.txt')
    """
    return f"{title or document_id}{f', page {page}' * (page is not None)}"
