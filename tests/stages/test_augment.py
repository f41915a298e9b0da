import pyarrow as pa
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ragjob.models.files import Source
from ragjob.models.tokenizer import count_tokens
from ragjob.stages import augment
from ragjob.stages.augment import AugmentStage
from ragjob.stages.settings import Augment
from tests.fakes import tiny_tokenizer

BARE = "{context}{prompt}"


@pytest.fixture(scope="session")
def bytewise() -> Tokenizer:
    """A tokenizer as generators have: unlike MiniLM's it counts line breaks, and bytes where it must."""
    return tiny_tokenizer().backend_tokenizer


def prompts(*passages: list[str], prompt: str = "why?") -> pa.Table:
    """Prompts with the texts of their passages: page 3 of a report, then notes."""
    rows = [
        {
            "prompt": prompt,
            "retrieved_document_ids": ["report.pdf", "notes.txt", "notes.txt"][: len(texts)],
            "retrieved_titles": ["Annual report", None, None][: len(texts)],
            "retrieved_pages": [3, None, None][: len(texts)],
            "retrieved_texts": texts,
        }
        for texts in passages
    ]
    return pa.Table.from_pylist(rows, AugmentStage.NEEDS)


def context_of(passages: list[str], limit: int, tokenizer: Tokenizer) -> str:
    stage = AugmentStage(Augment(template=BARE, max_context_tokens=limit), tokenizer)
    return str(stage(prompts(passages, prompt=""))["_augmented"][0])


def test_the_template_is_filled_with_numbered_passages_and_the_prompt(embedding_model: Source) -> None:
    stage = augment.make(Augment(template="{context}\n--\n{prompt}"), embedding_model)
    filled = stage(prompts(["The depot.", "A tram."], ["A tram."]))
    assert filled["_augmented"].to_pylist() == ["[1] The depot.\n\n[2] A tram.\n--\nwhy?", "[1] A tram.\n--\nwhy?"]


def test_each_passage_may_be_told_with_its_source(tokenizer: Tokenizer) -> None:
    filled = AugmentStage(Augment(sources=True), tokenizer)(prompts(["The depot.", "A tram."]))
    assert "[1] (Annual report, page 3) The depot.\n\n[2] (notes.txt) A tram." in filled["_augmented"][0].as_py()


def test_the_passages_that_are_given_are_counted(tokenizer: Tokenizer) -> None:
    stage = AugmentStage(Augment(template=BARE, max_context_tokens=16), tokenizer)
    given = stage(prompts([], ["A tram."], ["A tram."] * 2, ["A tram.", "depot " * 20], ["depot " * 20]))["_given"]
    assert given.to_pylist() == [0, 1, 2, 1, 1]


def test_braces_in_passages_and_prompts_stand_for_themselves(tokenizer: Tokenizer) -> None:
    filled = AugmentStage(Augment(template=BARE), tokenizer)(prompts(["{prompt} {0} }{"], prompt="{context}"))
    assert filled["_augmented"].to_pylist() == ["[1] {prompt} {0} }{{context}"]


def test_a_prompt_without_passages_says_so(tokenizer: Tokenizer) -> None:
    assert context_of([], 16, tokenizer) == "(no passage found)"


def test_passages_that_dont_fit_whole_are_left_out(tokenizer: Tokenizer) -> None:
    assert context_of(["tram " * 10, "depot " * 10, "a"], 20, tokenizer) == "[1] " + "tram " * 10


def test_a_first_passage_that_doesnt_fit_is_cut(tokenizer: Tokenizer) -> None:
    assert context_of(["tram " * 100, "a"], 20, tokenizer) == "[1]" + " tram" * 17


@pytest.mark.parametrize("letters", ["0123456789abcdef", "ถึง", "👩\u200d👩\u200d👧"])
@pytest.mark.parametrize("before", ["", "The dump follows. "])
def test_a_passage_is_cut_between_characters_at_eight_of_them_a_token(
    tokenizer: Tokenizer, before: str, letters: str
) -> None:
    context = context_of([before + letters * 5_000, "a"], 16, tokenizer)
    assert 8 * 16 - 5 < len(context) <= 8 * 16
    characters = regex.findall(r"\X", context)
    assert characters == regex.findall(r"\X", f"[1] {before}{letters * 50}")[: len(characters)]


def test_a_word_that_its_cut_makes_known_still_fits_the_tokens(tokenizer: Tokenizer) -> None:
    context = context_of(["The dump of the depot follows here. " + "0123456789abcdef" * 5_000], 16, tokenizer)
    assert count_tokens(tokenizer, [context])[0] == 16


def test_passages_that_have_too_many_characters_together_are_left_out(tokenizer: Tokenizer) -> None:
    assert context_of(["🦄" * 90, "🐙" * 90], 16, tokenizer) == "[1] " + "🦄" * 90


PASSAGES = st.lists(st.text(st.sampled_from("ab .\nü🚋") | st.characters(codec="utf-8"), min_size=1), max_size=4)


@given(PASSAGES, st.integers(16, 60))
def test_no_more_tokens_of_passages_than_the_limit_reach_a_generator(
    bytewise: Tokenizer, passages: list[str], limit: int
) -> None:
    assert count_tokens(bytewise, [context_of(passages, limit, bytewise)])[0] <= limit


@given(PASSAGES, st.integers(16, 60))
def test_what_fits_is_the_first_passages_whole_or_a_part_of_the_first(
    bytewise: Tokenizer, passages: list[str], limit: int
) -> None:
    context = context_of(passages, limit, bytewise)
    numbered = [f"[{number}] {text}" for number, text in enumerate(passages, 1)]
    wholes = ["\n\n".join(numbered[:count]) for count in range(1, len(numbered) + 1)]
    assert context in wholes or "".join(numbered[:1]).startswith(context) or context == "(no passage found)"
