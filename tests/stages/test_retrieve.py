import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ragjob.ledger import schema
from ragjob.retrieval.base import Hit, Vectors
from ragjob.retrieval.where import Condition
from ragjob.stages.retrieve import RetrieveStage
from tests.fakes import LengthRetriever, embed_lengths


def retrieve(lengths: list[int], errors: list[str | None] | None = None, top_k: int = 3) -> pa.Table:
    vectors = embed_lengths(["x" * length for length in lengths])
    columns = {
        "prompt": ["x" * length for length in lengths],
        "error": pa.array(errors or [None] * len(lengths), pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2),
    }
    return RetrieveStage(LengthRetriever(top_k), {})(pa.table(columns))


def test_each_prompt_gets_its_own_passages_best_first() -> None:
    retrieved = retrieve([1, 2], top_k=2)
    assert retrieved.schema.names == ["prompt", "error", *schema.RETRIEVED.names, "_sentences"]
    assert retrieved["_sentences"].to_pylist() == [None, None]
    assert retrieved["retrieved_ids"].to_pylist() == [["1@0.9", "1@0.6"], ["2@0.9", "2@0.6"]]
    assert pc.list_flatten(retrieved["retrieved_similarities"]).to_pylist() == pytest.approx([0.45, 0.3] * 2)
    assert retrieved["retrieved_equals"].to_pylist() == [[7, 7]] * 2
    assert retrieved.schema.field("retrieved_scores").type == pa.list_(pa.float32())


class QuotingRetriever(LengthRetriever):
    """Gives the sentences of each passage, too."""

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        sentences = [schema.Sentence(0, 1, 0.5)]
        hits = super().search(questions, vectors, conditions)
        return [[hit._replace(sentences=sentences) for hit in row] for row in hits]


def test_sentences_travel_with_their_passages() -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 1.0], pa.float32()), 2)
    rows = pa.table({"prompt": ["x"], "error": pa.nulls(1, pa.string()), "embedding": vectors})
    retrieved = RetrieveStage(QuotingRetriever(2), {})(rows)
    assert retrieved["_sentences"].to_pylist() == [[[{"start": 0, "end": 1, "similarity": 0.5}]] * 2]


def test_no_passage_will_do_as_well() -> None:
    columns = retrieve([1], top_k=0).select(schema.RETRIEVED.names).to_pydict()
    assert columns == {name: [[]] for name in schema.RETRIEVED.names}


def test_a_prompt_that_cant_be_searched_is_an_error_while_its_neighbours_stay() -> None:
    retrieved = retrieve([1, 2, 3, 13, 5, 6], errors=[None, "blank", None, None, None, None], top_k=1)
    assert retrieved["retrieved_ids"].to_pylist() == [["1@0.9"], None, ["3@0.9"], None, ["5@0.9"], ["6@0.9"]]
    assert retrieved["error"].to_pylist() == [None, "blank", None, "RuntimeError: no such vector", None, None]


class Listening(LengthRetriever):
    """Keeps the conditions that it was given."""

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        self.given = conditions
        return super().search(questions, vectors, conditions)


def test_each_prompt_is_searched_under_its_own_condition_and_never_without() -> None:
    retriever = Listening(1)
    vectors = embed_lengths(["x"] * 5)
    prompts = pa.table(
        {
            "prompt": ["x"] * 5,
            "tenant": ["a", None, "b", " ", "c"],
            "tags": pa.array([[1], [2], [3, 4], [5], [None]], pa.list_(pa.int64())),
            "error": pa.array([None] * 5, pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2),
        }
    )
    retrieved = RetrieveStage(retriever, {"owner": "{tenant}", "tag": "{tags}"})(prompts)
    assert retriever.given == [
        Condition((("owner", ("ta",)), ("tag", ("n1", "N1")))),
        Condition((("owner", ("tb",)), ("tag", ("n3", "N3", "n4", "N4")))),
    ]
    null = "is null, but retrieve.where takes a value from it; give the prompt one"
    assert retrieved["error"].to_pylist() == [None, f"tenant {null}", None, f"tenant {null}", f"tags {null}"]
    assert retrieved["retrieved_ids"].to_pylist() == [["1@0.9"], None, ["1@0.9"], None, None]
