import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ragjob.documents.chunking import WordCounter
from ragjob.documents.contexts import Contexts
from ragjob.ledger.schema import embedded_text
from ragjob.models.tokenizer import count_tokens
from tests.documents.test_chunking import any_tokenizer, counter

__all__ = ["any_tokenizer", "counter"]  # fixtures

NAMES = st.text(st.sampled_from("aB é雨🦄.>\n"), min_size=1, max_size=60).filter(str.strip)
LONG = "🦄" * 10_000


@settings(max_examples=60)
@given(st.one_of(st.none(), NAMES), st.lists(NAMES, max_size=4), st.integers(1, 30), st.integers(8, 60))
def test_a_context_and_its_text_fit_into_the_room(
    counter: WordCounter, any_tokenizer: Tokenizer, title: str | None, headings: list[str], words: int, room: int
) -> None:
    text = "tram " * words + "stops"
    context = Contexts("heading", counter, room).context(title, headings, text)
    tokens, alone = count_tokens(any_tokenizer, [embedded_text(context, text), text])
    assert tokens <= max(room, alone)


@pytest.mark.parametrize(
    ("kind", "title", "headings", "context"),
    [
        ("heading", "Guide", ["Fares", "Children"], "Guide > Fares > Children"),
        ("heading", None, ["Fares", "Children"], "Fares > Children"),
        ("heading", "Guide", ["Guide", "Children"], "Guide > Children"),
        ("title", "Guide", ["Fares"], "Guide"),
        ("title", None, ["Fares"], None),
        ("none", "Guide", ["Fares"], None),
        ("heading", None, [], None),
    ],
)
def test_a_context_is_the_title_and_the_headings_as_the_settings_say(
    kind: str, title: str | None, headings: list[str], context: str | None
) -> None:
    assert Contexts(kind, None, None).context(title, headings, "text") == context


@pytest.mark.parametrize(
    ("room", "context"),
    [
        (8, "Guide > Fares > Children"),
        (7, "Guide > Children"),
        (5, "Guide"),
        (3, None),
    ],
)
def test_outer_headings_give_way_before_inner_ones_and_these_before_the_title(
    tokenizer: Tokenizer, room: int, context: str | None
) -> None:
    contexts = Contexts("heading", WordCounter(tokenizer), room)
    assert contexts.context("Guide", ["Fares", "Children"], "one two three") == context


@pytest.mark.parametrize(
    ("title", "context"),
    [
        ("one two three four five six seven eight", "one two three four five six seven"),
        ("夜の電車の案内です", "夜の電車の案内"),
        (LONG, "🦄" * 7),
    ],
    ids=["words", "characters", "unknown"],
)
def test_a_title_that_is_too_long_is_cut(tokenizer: Tokenizer, title: str, context: str) -> None:
    assert Contexts("heading", WordCounter(tokenizer), 10).context(title, [], "one two three") == context


@pytest.mark.parametrize("room", [None, 8192])
def test_no_context_drowns_its_text_however_much_the_model_reads(tokenizer: Tokenizer, room: int | None) -> None:
    counter = WordCounter(tokenizer)
    known = Contexts("heading", counter, room, 200).context("tram " * 10_000, [], "text")
    unknown = Contexts("heading", counter, room, 200).context(None, [LONG], "text")
    unmeasured = Contexts("heading", None, room).context(LONG, [], "text")
    assert known == " ".join(["tram"] * 100)
    assert (unknown, unmeasured) == (LONG[:600], LONG[:600])
