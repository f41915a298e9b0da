"""Answer each augmented prompt."""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ragjob.engines.base import Completion, Engine, Failure, Generator, Request
from ragjob.engines.settings import Generation
from ragjob.ledger import schema
from ragjob.stages.columns import Stage
from ragjob.stages.rows import Columns, add_columns, arrays, foreign
from ragjob.stages.settings import Augment

_OF_PASSAGES = (schema.RETRIEVED_TEXTS, schema.RETRIEVED_SCORES, schema.RETRIEVED_SIMILARITIES, schema.SENTENCES)
_NUMBER = re.compile(r"\d{1,6}")
_CITATION = re.compile(r"\[(\d{1,6}+(?:\s*+[,;]\s*+\d{1,6}+)*+)\s*+\]")


def make(engine: Engine[Generation], augment: Augment, dtype: str, threads: int) -> "GenerateStage":
    """A stage that answers with `engine`; `dtype` is that of the index's vectors."""
    return GenerateStage(engine.make(dtype, threads), augment.system, augment.template.format(context="", prompt=""))


class GenerateStage(Stage):
    """Answer a block of prompts with one engine. It may work on several blocks at once, if the engine takes several."""

    NAME = "generate"
    NEEDS = schema.columns(schema.PROMPT, schema.AUGMENTED, schema.GIVEN, *_OF_PASSAGES, schema.ERROR)
    ADDS = schema.columns(*schema.GENERATED.names, schema.CITATIONS, schema.CACHED_TOKENS, schema.WRONG_CITATIONS)
    DROPS = frozenset({schema.AUGMENTED, schema.GIVEN, schema.SENTENCES})

    def __init__(self, generator: Generator, system: str, bare: str = "") -> None:
        self._generator = generator
        self._system = system
        self._bare = bare

    def __call__(self, prompts: pa.Table) -> pa.Table:
        return add_columns(prompts, self.ADDS, self._compute).drop_columns(list(self.DROPS))

    def _compute(self, prompts: pa.Table) -> Columns:
        rows = prompts.select(self.NEEDS.names).to_pylist()
        requests = list(map(self._request, rows))
        with foreign():
            answers = self._generator.generate(requests)
        return _columns(answers, [len(request.passages) for request in requests])

    def _request(self, row: dict[str, Any]) -> Request:
        given, sentences = slice(row[schema.GIVEN]), row[schema.SENTENCES]
        return Request(
            self._system,
            row[schema.AUGMENTED],
            row[schema.PROMPT],
            row[schema.RETRIEVED_TEXTS][given],
            self._bare,
            scores=row[schema.RETRIEVED_SCORES][given],
            similarities=row[schema.RETRIEVED_SIMILARITIES][given],
            sentences=sentences
            and [[schema.Sentence(**sentence) for sentence in of_one] for of_one in sentences[given]],
        )


def cited(answer: str, passages: int) -> tuple[list[int], int]:
    """The passages that an answer cites by numbers in brackets, each once, in order; and how many numbers fit none.

    >>> cited("Line 4 runs all night [2], as in May [1, 2] [7].", 3)
    ([2, 1], 1)
    """
    named = (int(number) for group in _CITATION.findall(answer) for number in _NUMBER.findall(group))
    numbers = list(dict.fromkeys(named))
    given = [number for number in numbers if 1 <= number <= passages]
    return given, len(numbers) - len(given)


def _columns(answers: list[Completion | Failure], passages: list[int]) -> Columns:
    completions = [answer if isinstance(answer, Completion) else None for answer in answers]
    # An answer too few is found with the other columns.
    citations = [answer and cited(answer.text, count) for answer, count in zip(completions, passages, strict=False)]
    values: dict[str, Sequence[object]] = {
        schema.ANSWER: [answer and answer.text for answer in completions],
        schema.FINISH_REASON: [answer and answer.finish_reason for answer in completions],
        schema.PROMPT_TOKENS: [answer and answer.prompt_tokens for answer in completions],
        schema.COMPLETION_TOKENS: [answer and answer.completion_tokens for answer in completions],
        schema.CITATIONS: [of_answer and of_answer[0] for of_answer in citations],
        schema.CACHED_TOKENS: [answer and answer.cached_tokens for answer in completions],
        schema.WRONG_CITATIONS: [of_answer and of_answer[1] for of_answer in citations],
        schema.ERROR: [None if isinstance(answer, Completion) else answer.error for answer in answers],
    }
    return arrays(values, schema.columns(*values))
