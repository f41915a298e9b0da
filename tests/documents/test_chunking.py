import re
from collections.abc import Callable
from itertools import pairwise

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from ragjob.cli.sample import CORPUS
from ragjob.documents import chunking
from ragjob.documents.chunking import Splitter, WordCounter
from ragjob.models.tokenizer import count_tokens

SAMPLE = "\n".join(file.read_text("utf-8") for file in sorted(CORPUS.glob("*.md")))
SIZES = st.tuples(st.integers(8, 40), st.integers(0, 7))
FEW = settings(max_examples=60)


def byte_level(_: Tokenizer) -> Tokenizer:
    """As GPT-2's: a token may begin with a space, and bytes make up a character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([SAMPLE], trainer)
    return tokenizer


def unigram(_: Tokenizer) -> Tokenizer:
    """As XLM-R's and T5's: a space is the beginning of a token."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=600, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([SAMPLE], trainer)
    return tokenizer


def without_words(_: Tokenizer) -> Tokenizer:
    """As Llama 2's: a text is one word to it, and begins with a space of its own."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(SAMPLE.split(), trainer)
    return tokenizer


@pytest.fixture(scope="session", params=[lambda minilm: minilm, byte_level, unigram, without_words])
def any_tokenizer(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Tokenizer:
    make: Callable[[Tokenizer], Tokenizer] = request.param
    return make(tokenizer)


@pytest.fixture(scope="session")
def counter(any_tokenizer: Tokenizer) -> WordCounter:
    return WordCounter(any_tokenizer)


@pytest.fixture(scope="session")
def minilm_counter(tokenizer: Tokenizer) -> WordCounter:
    return WordCounter(tokenizer)


def split(counter: WordCounter, text: str, size: int, overlap: int = 0) -> list[str]:
    return list(Splitter(counter, size, overlap).split(text))


ODD = st.text(
    st.sampled_from("aB1é.!?。」“’-_/ \n\r\t\v\f\x00\x1c\x85\u00a0\u0301\u200b\u2028한雨🙂\ufeff"), max_size=150
)
TEXTS = st.one_of(ODD, st.text(max_size=150), st.lists(ODD, max_size=8).map("word word. ".join))


@FEW
@given(TEXTS, SIZES)
def test_no_chunk_has_more_tokens_than_size(
    counter: WordCounter, any_tokenizer: Tokenizer, text: str, sizes: tuple[int, int]
) -> None:
    assert max(count_tokens(any_tokenizer, split(counter, text, *sizes)), default=0) <= sizes[0]


@FEW
@given(TEXTS, st.integers(8, 40))
def test_chunks_hold_all_that_isnt_space_in_its_order(counter: WordCounter, text: str, size: int) -> None:
    chunks = split(counter, text, size)
    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert [chunk.strip() for chunk in chunks] == chunks


SCRIPTS = {
    "Thai": "กำปั่นที่เรือน้ำ",
    "Chinese": "电车停在车库，",
    "Japanese": "電車は車庫にあるガ、",
    "Korean": "전차는차고에있다",
    "decomposed": "전차e\u0301n\u0303",
    "Arabic": "القِطارُ",
    "Devanagari": "क्षत्रियट्राम",
    "emoji": "👩\u200d👩\u200d👧🙂👋🏽🇳🇴1\ufe0f\u20e3",
    "hex": "0123456789abcdef",
    "base64": "ABCxyz019+/=",
    "letters": "abcdefghij",
}


@st.composite
def long_words(draw: st.DrawFn) -> str:
    """A text of a few words in some script, up to thousands of characters long."""
    letters = st.sampled_from(regex.findall(r"\X", SCRIPTS[draw(st.sampled_from(sorted(SCRIPTS)))]))
    word = st.builds(lambda part, times: "".join(part) * times, st.lists(letters, min_size=1), st.integers(1, 300))
    return " ".join(draw(st.lists(word, min_size=1, max_size=3)))


@FEW
@given(st.one_of(long_words(), TEXTS), SIZES)
def test_no_chunk_has_more_than_six_characters_a_token(counter: WordCounter, text: str, sizes: tuple[int, int]) -> None:
    assert max(map(len, split(counter, text, *sizes)), default=0) <= 6 * sizes[0]


@FEW
@given(long_words(), st.integers(20, 40))
def test_long_words_are_cut_between_characters_and_lose_none(counter: WordCounter, text: str, size: int) -> None:
    chunks = split(counter, text, size)
    characters = [character for chunk in chunks for character in regex.findall(r"\X", "".join(chunk.split()))]
    assert characters == regex.findall(r"\X", "".join(text.split()))


@FEW
@given(long_words(), st.integers(8, 40))
def test_no_chunk_of_long_words_has_more_tokens_than_size(
    counter: WordCounter, any_tokenizer: Tokenizer, text: str, size: int
) -> None:
    assert max(count_tokens(any_tokenizer, split(counter, text, size)), default=0) <= size


SENTENCES = st.lists(st.integers(0, 30), min_size=1, max_size=30)
JOINTS = st.lists(st.sampled_from([" ", " ", "  ", "\n", "\n\n"]), min_size=30, max_size=30)


def passages(lengths: list[int], joints: list[str]) -> tuple[list[str], str]:
    """Numbered sentences with so many words between the first and the last, and a text of them."""
    sentences = [f"Tram {number} {'rolls on ' * length}here." for number, length in enumerate(lengths)]
    return sentences, "".join(sentence + joint for sentence, joint in zip(sentences, joints, strict=False))


@FEW
@given(SENTENCES, JOINTS, SIZES)
def test_a_sentence_that_fits_is_whole_in_a_chunk(
    counter: WordCounter, any_tokenizer: Tokenizer, lengths: list[int], joints: list[str], sizes: tuple[int, int]
) -> None:
    sentences, text = passages(lengths, joints)
    chunks = "\v".join(split(counter, text, *sizes))
    counts = count_tokens(any_tokenizer, sentences)
    fitting = [sentence for sentence, count in zip(sentences, counts, strict=True) if count <= sizes[0]]
    assert [sentence for sentence in fitting if sentence not in chunks] == []


@FEW
@given(SENTENCES, JOINTS, SIZES)
def test_a_paragraph_that_fits_is_whole_in_a_chunk(
    counter: WordCounter, any_tokenizer: Tokenizer, lengths: list[int], joints: list[str], sizes: tuple[int, int]
) -> None:
    paragraphs = passages(lengths, joints)[1].strip().split("\n\n")
    chunks = "\v".join(split(counter, "\n\n".join(paragraphs), *sizes))
    counts = count_tokens(any_tokenizer, paragraphs)
    fitting = [paragraph for paragraph, count in zip(paragraphs, counts, strict=True) if count <= sizes[0]]
    assert [paragraph for paragraph in fitting if paragraph not in chunks] == []


@FEW
@given(SENTENCES, JOINTS, st.integers(8, 40))
def test_words_stay_whole(counter: WordCounter, lengths: list[int], joints: list[str], size: int) -> None:
    text = passages(lengths, joints)[1]
    assert [word for chunk in split(counter, text, size) for word in chunk.split()] == text.split()


@FEW
@given(st.lists(st.sampled_from([" ", ", ", ". ", "\n", "\n\n", "\n# "]), min_size=1, max_size=120), SIZES)
def test_neighbours_share_at_most_overlap(
    counter: WordCounter, any_tokenizer: Tokenizer, breaks: list[str], sizes: tuple[int, int]
) -> None:
    text = "".join(f"Word{number}{end}" for number, end in enumerate(breaks))
    words_by_chunk = [re.findall(r"Word\d+", chunk) for chunk in split(counter, text, *sizes)]
    ends = [(words[0], words[-1]) for words in words_by_chunk if words]
    shared = [text[text.index(first) : text.index(last) + len(last)] for (_, last), (first, _) in pairwise(ends)]
    assert max(count_tokens(any_tokenizer, shared), default=0) <= sizes[1]
    assert {word for words in words_by_chunk for word in words} == set(re.findall(r"Word\d+", text))


def test_the_sample_is_cut_at_sentences_only(counter: WordCounter) -> None:
    ends = [chunk.split("\n")[-1] for chunk in split(counter, SAMPLE, 200, 20)]
    assert [end for end in ends if not end.endswith(".") and not end.startswith("#")] == []


def test_chunks_dont_depend_on_texts_before(any_tokenizer: Tokenizer) -> None:
    used, new = (Splitter(WordCounter(any_tokenizer), 40, 8) for _ in range(2))
    list(used.split(SAMPLE[::-1]))
    assert list(used.split(SAMPLE)) == list(new.split(SAMPLE))


@pytest.mark.parametrize("chars", [2_000, 9_000])
def test_a_text_of_several_windows_is_cut_as_one_is(
    counter: WordCounter, monkeypatch: pytest.MonkeyPatch, chars: int
) -> None:
    whole = split(counter, SAMPLE, 60)
    monkeypatch.setattr(chunking, "WINDOW_CHARS", chars)
    assert split(counter, SAMPLE, 60) == whole


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\x85"])
def test_a_wide_space_before_a_stop_breaks_nothing(counter: WordCounter, space: str) -> None:
    text = f"They took plan B{space}. " * 30
    assert "".join(" ".join(split(counter, text, 20)).split()) == "".join(text.split())


def test_sentences_without_spaces_between_them_stay_whole(counter: WordCounter) -> None:
    text = "".join(f"今日は雨{number}。" for number in range(50))
    assert {chunk[-1] for chunk in split(counter, text, 40)} == {"。"}


@pytest.mark.parametrize("end", ["！", "？", "｡", "．", "‼", "။", "។", "།", "。」", "。』", "！”"])
def test_the_marks_of_scripts_without_spaces_end_sentences(counter: WordCounter, end: str) -> None:
    begin = {"」": "「", "』": "『", "”": "“"}.get(end[-1], "")
    text = "".join(f"{begin}今日は雨{number}{end}" for number in range(50))
    assert {chunk[-len(end) :] for chunk in split(counter, text, 40)} == {end}


def test_unknown_words_are_shared_by_their_characters(minilm_counter: WordCounter) -> None:
    text = " ".join(["🦄" * 20] * 100)
    chunks = split(minilm_counter, text, 40, 10)
    assert {len(chunk) for chunk in chunks[:-1]} == {11 * 20 + 10}
    assert len(chunks) == 11  # sixty characters hold two of the words, of which a model without tokens sees ten


def test_a_text_of_unknown_words_is_cut_alike_in_several_windows(
    minilm_counter: WordCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(["🦄" * 30 + "."] * 300)
    whole = split(minilm_counter, text, 40)
    monkeypatch.setattr(chunking, "WINDOW_CHARS", 3_000)
    assert split(minilm_counter, text, 40) == whole


def test_a_word_longer_than_a_chunk_is_cut_at_its_punctuation(counter: WordCounter) -> None:
    chunks = split(counter, "before it " + ",".join(["tram"] * 100) + " behind it", 16)
    assert set(re.findall(r"\w+", " ".join(chunks))) == {"before", "it", "tram", "behind"}


def test_neighbours_share_words_within_a_sentence(counter: WordCounter) -> None:
    chunks = split(counter, " ".join(f"word{number}" for number in range(50)), 30, 12)
    assert [one.split()[-1] in two.split() for one, two in pairwise(chunks)] == [True] * (len(chunks) - 1)


def test_neighbours_share_whole_sentences(counter: WordCounter) -> None:
    chunks = split(counter, " ".join(f"Tram {number} goes." for number in range(30)), 60, 20)
    assert {chunk[:5] for chunk in chunks} == {"Tram "}
    assert [one.rsplit("Tram", 1)[1] in two for one, two in pairwise(chunks)] == [True] * (len(chunks) - 1)
