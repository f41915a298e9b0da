import pytest
from tokenizers import Tokenizer

from ragjob.engines.base import Completion, Request
from ragjob.engines.extractive.generator import ExtractiveGenerator
from ragjob.ledger.schema import Sentence
from ragjob.models.embedder import Embedder
from ragjob.retrieval.lexical.tokens import Tokenizer as Terms

DEPOTS = "# Depots\n\nThe main depot has seven tracks. It was built in 1918. Offices face the lane."
FARES = "A single ticket costs two crowns. Children under six ride free of charge."


@pytest.fixture(scope="module")
def generator(embedder: Embedder, tokenizer: Tokenizer) -> ExtractiveGenerator:
    return ExtractiveGenerator(lambda: embedder, tokenizer, Terms("en").terms)


def ask(question: str, passages: list[str]) -> Request:
    return Request(system="", user=f"Answer this: {question}", question=question, passages=passages)


def test_the_best_sentence_is_quoted_with_its_passages_number(generator: ExtractiveGenerator) -> None:
    request = ask("What is the price of a single ticket?", [DEPOTS, FARES])
    assert generator.generate([request])[0].text == "A single ticket costs two crowns. [2]"


def test_sentences_nearly_as_good_follow_in_the_order_of_the_passages(generator: ExtractiveGenerator) -> None:
    passages = ["The tram stops near the harbour.", "The tram stops at the harbour.", "Herring is eaten raw."]
    answer = generator.generate([ask("Which tram stops at the harbour?", passages)])[0]
    assert answer.text == "The tram stops near the harbour. [1] The tram stops at the harbour. [2]"


def test_no_more_than_three_sentences_are_quoted(generator: ExtractiveGenerator) -> None:
    passages = [f"The tram number {number} stops here." for number in range(9)]
    assert generator.generate([ask("Which tram stops here?", passages)])[0].text.count("[") == 3


def test_a_sentence_that_two_passages_share_is_quoted_once(generator: ExtractiveGenerator) -> None:
    request = ask("How many tracks has the main depot?", [DEPOTS, DEPOTS])
    assert generator.generate([request])[0].text == "The main depot has seven tracks. [1]"


def test_headings_and_fragments_are_not_quoted(generator: ExtractiveGenerator) -> None:
    request = ask("Where are the depots?", ["# Where are the depots?\nThe depots. They stand in Net Street."])
    assert generator.generate([request])[0].text == "They stand in Net Street. [1]"


def test_sentences_of_scripts_without_spaces_are_quoted(generator: ExtractiveGenerator) -> None:
    request = ask("车库有几条轨道？", ["好。车库有七条轨道。它建于一九一八年。"])
    assert "车库有七条轨道。 [1]" in generator.generate([request])[0].text


def refuse() -> Embedder:
    raise AssertionError("what the index holds isn't embedded again")


@pytest.fixture(scope="module")
def quoting(tokenizer: Tokenizer) -> ExtractiveGenerator:
    """One for requests whose sentences are known."""
    return ExtractiveGenerator(refuse, tokenizer, Terms("en").terms)


KNOWN = ["It runs at night. It runs all day. Line 9 rusts.", "Line 4 has lamps."]


def known(question: str, near: list[float], scores: list[float]) -> Request:
    """A request with the similarities of the first passage's sentences, and of the second passage."""
    sentences = [[Sentence(*fields) for fields in zip([0, 18, 35], [17, 34, 47], near[:3], strict=True)], []]
    return Request("", "user", question, KNOWN, scores=scores, similarities=[0.5, near[3]], sentences=sentences)


@pytest.mark.parametrize(
    ("question", "near", "scores", "answer"),
    [
        ("?", [0.9, 0.1, 0.1, 0.1], [1, 1], "It runs at night. [1]"),
        ("?", [0.1, 0.1, 0.1, 0.9], [1, 1], "Line 4 has lamps. [2]"),
        ("Which has lamps?", [0.5, 0.1, 0.1, 0.5], [1, 0.95], "It runs at night. [1] Line 4 has lamps. [2]"),
        ("Which lamps?", [0.3, 0.1, 0.1, 0.5], [1, 1], "Line 4 has lamps. [2]"),
        ("?", [0.6, 0.1, 0.1, 0.6], [1, 0.5], "It runs at night. [1]"),
        ("?", [0.6, 0.1, 0.1, 0.1], [-1, -2], "It runs at night. [1]"),
    ],
)
def test_similarity_words_and_the_passages_score_decide_what_is_quoted(
    quoting: ExtractiveGenerator, question: str, near: list[float], scores: list[float], answer: str
) -> None:
    assert quoting.generate([known(question, near, scores)])[0].text == answer


@pytest.mark.parametrize("passages", [[], ["# Depots", "So."]])
def test_without_a_sentence_to_quote_the_answer_says_so(generator: ExtractiveGenerator, passages: list[str]) -> None:
    answer = generator.generate([ask("Where?", passages)])[0]
    assert answer == Completion("No passage answers this.", "stop", prompt_tokens=5, completion_tokens=5)


def test_answers_come_in_the_order_of_their_requests(generator: ExtractiveGenerator) -> None:
    questions = ["What does a single ticket cost?", "Who rides free of charge?"]
    requests = [ask(questions[0], [FARES]), ask("Where?", []), ask(questions[1], [FARES])]
    assert [answer.text for answer in generator.generate(requests)] == [
        "A single ticket costs two crowns. [1]",
        "No passage answers this.",
        "Children under six ride free of charge. [1]",
    ]


def test_no_requests_get_no_answers(generator: ExtractiveGenerator) -> None:
    assert generator.generate([]) == []
