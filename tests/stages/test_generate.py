import pyarrow as pa
import pytest

from ragjob.engines.base import Completion, Failure, Request
from ragjob.ledger import schema
from ragjob.stages.generate import GenerateStage, cited
from tests.fakes import POISON, REFUSED, EchoGenerator


def given(texts: list[list[str]]) -> dict[str, pa.Array]:
    """What is known of passages with these texts: the sentences of each are its first three characters."""
    scores = pa.array([[0.5] * len(row) for row in texts], pa.list_(pa.float32()))
    sentences = [[[{"start": 0, "end": 3, "similarity": 0.5}] for _ in row] for row in texts]
    return {
        "retrieved_texts": pa.array(texts),
        "retrieved_scores": scores,
        "retrieved_similarities": scores,
        "_sentences": pa.array(sentences, schema.columns(schema.SENTENCES).types[0]),
    }


def generate(*questions: str, errors: list[str | None] | None = None) -> pa.Table:
    columns = {
        "prompt": questions,
        "error": pa.array(errors or [None] * len(questions), pa.string()),
        **given([[f"about {question}"] for question in questions]),
        "_augmented": [f"asked: {question}" for question in questions],
        "_given": pa.array([1] * len(questions), pa.int32()),
    }
    return GenerateStage(EchoGenerator(), "system")(pa.table(columns))


def test_each_prompt_gets_the_answer_to_its_message_question_and_passages() -> None:
    rows = generate("a", "b")
    assert rows["answer"].to_pylist() == ["system|asked: a|a|['about a']", "system|asked: b|b|['about b']"]


def test_a_completions_columns_are_added_and_the_message_dropped() -> None:
    rows = generate("a")
    assert rows.schema.names == [
        "prompt",
        "error",
        "retrieved_texts",
        "retrieved_scores",
        "retrieved_similarities",
        *schema.GENERATED.names,
        "citations",
        "_cached_tokens",
        "_wrong_citations",
    ]
    assert rows.select(schema.GENERATED.names).schema == schema.GENERATED
    assert rows.select(["finish_reason", "prompt_tokens", "completion_tokens"]).to_pylist() == [
        {"finish_reason": "stop", "prompt_tokens": 8, "completion_tokens": 1}
    ]


def test_a_prompt_that_the_model_fails_on_is_an_error_while_its_neighbours_stay() -> None:
    rows = generate("a", POISON, "c", "d", errors=[None, None, None, "prompt is blank"])
    assert rows["error"].to_pylist() == [None, "RuntimeError: the prompt is too long", None, "prompt is blank"]
    assert rows["answer"].to_pylist() == ["system|asked: a|a|['about a']", None, "system|asked: c|c|['about c']", None]


def test_a_prompt_that_the_engine_refuses_is_an_error_and_computed_once() -> None:
    rows = generate("a", REFUSED, "c")
    assert rows["error"].to_pylist() == [None, "not that", None]
    assert rows["answer"].to_pylist() == ["system|asked: a|a|['about a']", None, "system|asked: c|c|['about c']"]


def test_only_the_passages_that_are_in_the_prompt_are_given_to_the_engine() -> None:
    rows = {"prompt": ["a"], "error": pa.nulls(1, pa.string()), **given([["first", "second"]])}
    rows |= {"_augmented": ["asked: a"], "_given": pa.array([1], pa.int32())}
    answers = GenerateStage(EchoGenerator(), "system")(pa.table(rows))
    assert answers["answer"].to_pylist() == ["system|asked: a|a|['first']"]


class Keeper(EchoGenerator):
    """Keeps what it is asked."""

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        self.asked = requests
        return super().generate(requests)


@pytest.mark.parametrize("sentences", [None, [[schema.Sentence(0, 3, 0.5)]]])
def test_the_engine_is_told_what_is_known_of_the_passages(sentences: list[list[schema.Sentence]] | None) -> None:
    keeper, rows = Keeper(), given([["first", "second"]])
    if sentences is None:
        rows["_sentences"] = pa.nulls(1, rows["_sentences"].type)
    rows |= {
        "prompt": ["a"],
        "error": pa.nulls(1, pa.string()),
        "_augmented": ["b"],
        "_given": pa.array([1], pa.int32()),
    }
    GenerateStage(keeper, "system")(pa.table(rows))
    [request] = keeper.asked
    assert (request.passages, request.scores, request.similarities) == (["first"], [0.5], [0.5])
    assert request.sentences == sentences


@pytest.mark.parametrize(
    ("answer", "citations", "wrong"),
    [
        ("", [], 0),
        ("In 1931 [2]. Then [1], [2].", [2, 1], 0),
        ("See [1, 2;3].", [1, 2, 3], 0),
        ("See [0], [4], [4, 1], [12345678], [a1], [1-2] and [].", [1], 2),
        ("[" + "1 " * 50_000, [], 0),
    ],
)
def test_an_answer_cites_the_passages_whose_numbers_it_names(answer: str, citations: list[int], wrong: int) -> None:
    assert cited(answer, 3) == (citations, wrong)
