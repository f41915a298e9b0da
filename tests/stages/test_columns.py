import pyarrow as pa
import pytest

from ragjob.documents.units import SLICES
from ragjob.ledger import schema
from ragjob.stages.augment import AugmentStage
from ragjob.stages.chunk import ChunkStage
from ragjob.stages.columns import Stage, check_columns, fits
from ragjob.stages.embed import EmbedChunks, EmbedPrompts
from ragjob.stages.generate import GenerateStage
from ragjob.stages.read import ReadDocuments, ReadPrompts
from ragjob.stages.rerank import RerankStage
from ragjob.stages.retrieve import RetrieveStage
from ragjob.stages.sentences import EmbedSentences, ReadPart, WriteSentences
from ragjob.stages.write import WriteAnswers, WriteChunks, WriteChunksAndSentences

INDEX: list[type[Stage]] = [ReadDocuments, ChunkStage, EmbedChunks, WriteChunks]
ANSWER: list[type[Stage]] = [ReadPrompts, EmbedPrompts, RetrieveStage, AugmentStage, GenerateStage, WriteAnswers]


RERANK: list[type[Stage]] = [*ANSWER[:3], RerankStage, *ANSWER[3:]]
WITH_SENTENCES: list[type[Stage]] = [*INDEX[:3], EmbedSentences, WriteChunksAndSentences]
SENTENCES: list[type[Stage]] = [ReadPart, EmbedSentences, WriteSentences]


class CountPassages(Stage):
    NAME = "count"
    NEEDS = pa.schema([(schema.RETRIEVED_TEXTS, pa.large_string())])


@pytest.mark.parametrize(
    ("flow", "given"),
    [(INDEX, SLICES), (WITH_SENTENCES, SLICES), (ANSWER, SLICES), (RERANK, SLICES), (SENTENCES, schema.PARTS)],
    ids=["index", "index with sentences", "answer", "answer with rerank", "sentences"],
)
def test_the_stages_of_each_flow_fit_together(flow: list[type[Stage]], given: pa.Schema) -> None:
    check_columns(flow, given)


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        (
            [*ANSWER[:2], *ANSWER[3:]],
            "stage augment needs column 'retrieved_document_ids' (list<item: string>), which no stage",
        ),
        ([*ANSWER[:3], RetrieveStage], "stage retrieve needs column 'embedding' (list<item: float>), which no stage"),
        ([*ANSWER[:3], CountPassages], "stage count needs column 'retrieved_texts' (large_string), which is list<item"),
        ([*INDEX[:3], EmbedChunks], "stage embed adds column 'embedding' (list<item: float>), which is there already"),
        (ANSWER[1:], "stage embed needs column 'prompt' (string), which no stage before it adds"),
    ],
    ids=["missing", "dropped", "type", "twice", "input"],
)
def test_stages_that_dont_fit_together_are_refused(flow: list[type[Stage]], problem: str) -> None:
    with pytest.raises(TypeError) as refused:
        check_columns(flow, SLICES)
    assert str(refused.value).startswith(problem)


@pytest.mark.parametrize(
    ("present", "fit"),
    [
        (pa.list_(pa.float32()), True),
        (pa.list_(pa.float32(), 3), True),
        (pa.list_(pa.float64(), 3), False),
        (pa.float32(), False),
    ],
)
def test_lists_of_one_length_do_where_lists_are_needed(present: pa.DataType, fit: bool) -> None:
    assert fits(present, pa.list_(pa.float32())) == fit
    assert not fits(pa.list_(pa.float32()), pa.list_(pa.float32(), 3))
