"""In every stage, what a library raises at an odd row is that row's error, and what a bug of ours raises is not.

That the latter ends the job with its traceback is in tests/runtime/test_flow.py.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ragjob.documents.readers import text
from ragjob.documents.readers.base import Block, Document
from ragjob.documents.settings import Chunk, Corpus, Prompts
from ragjob.documents.units import plan_slices, scan_corpus, scan_prompts
from ragjob.engines.base import Completion, Failure, Request
from ragjob.ledger import schema
from ragjob.models.embedder import Vectors
from ragjob.retrieval.base import Hit
from ragjob.retrieval.where import Condition
from ragjob.stages.augment import AugmentStage
from ragjob.stages.chunk import ChunkStage
from ragjob.stages.columns import Stage
from ragjob.stages.embed import EmbedChunks, EmbedPrompts
from ragjob.stages.generate import GenerateStage
from ragjob.stages.read import ReadDocuments, ReadPrompts
from ragjob.stages.retrieve import RetrieveStage
from ragjob.stages.sentences import EmbedSentences, ReadPart, WriteSentences
from ragjob.stages.settings import Augment
from ragjob.stages.write import WriteAnswers, WriteChunks, WriteChunksAndSentences
from tests.conftest import WriteFiles
from tests.passages import make_passage

ODD = "odd"
ERRORS = [TypeError(ODD), KeyError(ODD), RuntimeError(ODD)]
ALL = 10**9


class Library:
    """Stands in for every library: a call with `ODD` in its data fails, by an error as libraries raise at odd data."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def embed(self, texts: list[str]) -> Vectors:
        self._refuse(texts)
        return np.ones((len(texts), 2), np.float32)

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        self._refuse(questions)
        return [[Hit(make_passage("chunk"), 0.5, 0.5)] for _ in questions]

    def encode(self, passage: str, add_special_tokens: bool) -> list[str]:
        self._refuse([passage])
        return passage.split()

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        self._refuse([request.question for request in requests])
        return [Completion("because", "stop", 1, 1) for _ in requests]

    def spans(self, document: str, blocks: list[Block]) -> list[tuple[int, int]]:
        self._refuse([document])
        return [(0, len(document))]

    def read(self, content: bytes) -> Document:
        self._refuse([content.decode()])
        return Document(content.decode())

    def _refuse(self, texts: list[str]) -> None:
        if any(ODD in part for part in texts):
            raise self._error


class Forgetful(Library):
    """Answers all but the last of what it is asked."""

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        return super().search(questions, vectors, conditions)[:-1]

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        return super().generate(requests)[:-1]


def block(stage: type[Stage], *texts: str) -> pa.Table:
    """A row for each text, which stands wherever the stage needs one."""
    columns = {field.name: [_value(field.type, part) for part in texts] for field in stage.NEEDS}
    return pa.table(columns | {"error": pa.nulls(len(texts), pa.string())}, stage.NEEDS)


def _value(kind: pa.DataType, text: str) -> object:
    if pa.types.is_list(kind) and pa.types.is_nested(kind.value_type):
        return None
    if pa.types.is_list(kind):
        return [_value(kind.value_type, text)] * 2
    return text if pa.types.is_string(kind) else 1


def chunk_with(library: Library) -> Stage:
    stage = ChunkStage(Chunk(strategy="line", min_chars=0), None, None)
    stage._spans = library.spans
    return stage


def augment_with(tokenizer: Any) -> Stage:
    return AugmentStage(Augment(), tokenizer)


def failed(rows: pa.Table) -> list[bool]:
    return [bool(error) for error in rows["error"].to_pylist()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize(
    ("stage", "make"),
    [
        (ChunkStage, chunk_with),
        (EmbedChunks, lambda library: EmbedChunks(library.embed, 2)),
        (EmbedPrompts, lambda library: EmbedPrompts(library.embed, 2)),
        (RetrieveStage, lambda library: RetrieveStage(library, {})),
        (AugmentStage, augment_with),
        (GenerateStage, lambda library: GenerateStage(library, "system")),
    ],
)
def test_a_row_that_a_library_fails_at_has_an_error_while_its_neighbours_have_none(
    stage: type[Stage], make: Callable[[Library], Stage], error: Exception
) -> None:
    rows = make(Library(error))(block(stage, "a", ODD, "b"))
    assert failed(rows) == [False, True, False]
    assert rows["error"][1].as_py().startswith(f"{type(error).__name__}: ")


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_file_that_its_parser_fails_at_has_an_error_while_its_neighbours_have_none(
    write_files: WriteFiles, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    entries = write_files({"a.txt": b"a", "b.txt": ODD.encode(), "c.txt": b"c"})
    monkeypatch.setattr(text.TextFile, "read", lambda _, content: Library(error).read(content))
    (unit,) = plan_slices(scan_corpus(entries, Corpus()), ALL, ALL)
    assert failed(ReadDocuments(Corpus(), frozenset())(unit)) == [False, True, False]


def test_a_prompt_that_cant_be_decoded_has_an_error_while_its_neighbours_have_none(write_files: WriteFiles) -> None:
    inputs = scan_prompts(write_files({"a.txt": b"a\n\xff\nb\n"}), Prompts())
    (unit,) = plan_slices(inputs.segments, ALL, ALL)
    assert failed(ReadPrompts(Prompts(), inputs.passed)(unit)) == [False, True, False]


# Bugs


FORGETFUL = Forgetful(ValueError())
NOTHING: Any = None


@pytest.mark.parametrize(
    ("stage", "make", "bug"),
    [
        (
            ChunkStage,
            lambda: ChunkStage(Chunk.model_construct(strategy="line", min_chars="12"), None, None),
            "TypeError: '>'",
        ),
        (EmbedChunks, lambda: EmbedChunks(FORGETFUL.embed, 3), "TypeError: computed columns"),
        (EmbedPrompts, lambda: EmbedPrompts(FORGETFUL.embed, 3), "TypeError: computed columns"),
        (RetrieveStage, lambda: RetrieveStage(FORGETFUL, {}), "TypeError: computed columns"),
        (AugmentStage, lambda: AugmentStage(NOTHING, NOTHING), "AttributeError: 'NoneType'"),
        (GenerateStage, lambda: GenerateStage(FORGETFUL, "system"), "TypeError: computed columns"),
        (EmbedSentences, lambda: EmbedSentences(FORGETFUL.embed, "2"), "TypeError: "),
        (WriteChunks, lambda: WriteChunks(NOTHING), "AttributeError: 'NoneType'"),
        (WriteChunksAndSentences, lambda: WriteChunksAndSentences(NOTHING, NOTHING), "AttributeError: 'NoneType'"),
        (ReadPart, lambda: ReadPart(NOTHING), "AttributeError: 'NoneType'"),
        (WriteSentences, lambda: WriteSentences(NOTHING), "AttributeError: 'NoneType'"),
        (WriteAnswers, lambda: WriteAnswers(NOTHING, schema.answers(pa.schema([])), {}), "AttributeError: 'NoneType'"),
    ],
)
def test_a_bug_in_a_stage_is_no_rows_error(stage: type[Stage], make: Callable[[], Stage], bug: str) -> None:
    with pytest.raises((AttributeError, TypeError)) as raised:
        make()(block(stage, "a"))
    assert f"{raised.type.__name__}: {raised.value}".startswith(bug)


@pytest.mark.parametrize(
    ("stage", "make"),
    [
        (ReadDocuments, lambda: ReadDocuments(NOTHING, frozenset())),
        (ReadPrompts, lambda: ReadPrompts(NOTHING, pa.schema([]))),
    ],
)
def test_a_bug_in_reading_is_no_rows_error(
    write_files: WriteFiles, stage: type[Stage], make: Callable[[], Stage]
) -> None:
    (unit,) = plan_slices(scan_corpus(write_files({"a.csv": b"text\na\n"}), Corpus()), ALL, ALL)
    with pytest.raises(AttributeError, match=r"^'NoneType'"):
        make()(unit)
