import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.transformers.generator import CausalLM, attend
from ragjob.errors import EngineDied
from tests.fakes import CORPUS, TINY_CONTEXT, likeliest_tokens, set_generation, tiny_qwen2

TRAM = Request(system="Be brief.", user="Where does the tram stop?", question="", passages=[])
TRAM_PROMPT = (
    "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\nWhere does the tram stop?<|im_end|>\n<|im_start|>assistant\n"
)


def open_model(
    folder: Path,
    *,
    batch_size: int = 32,
    batch_tokens: int = 8192,
    max_new_tokens: int = 32,
    temperature: float = 0,
    gpus: float = 0,
) -> CausalLM:
    return CausalLM(
        str(folder),
        dtype="float32",
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        threads=1,
        gpus=gpus,
    )


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """200 prompts of 1 to 60 words."""
    words = " ".join(file.read_text() for file in sorted(CORPUS.glob("*.md"))).split()
    prompts = [" ".join(words[start : start + 1 + start * 7 % 60]) for start in range(0, 4000, 20)]
    return [Request("Be brief.", prompt, "", []) for prompt in prompts]


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return tiny_qwen2(tmp_path)


def test_answers_in_batches_are_those_given_one_at_a_time(qwen2: Path, requests: list[Request]) -> None:
    one_at_a_time = open_model(qwen2, batch_size=1).generate(requests)
    assert open_model(qwen2, batch_size=32).generate(requests) == one_at_a_time


def test_batches_cut_by_their_tokens_answer_alike(qwen2: Path, requests: list[Request]) -> None:
    assert open_model(qwen2, batch_tokens=400).generate(requests) == open_model(qwen2).generate(requests)


@pytest.mark.parametrize("shared", [1, 2, 6], ids=["one for all heads", "one for three heads", "one a head"])
@pytest.mark.parametrize("length", [1, 5], ids=["one new token", "a prompt"])
def test_attention_is_that_of_transformers(shared: int, length: int) -> None:
    query, cached = torch.randn(3, 6, length, 8), torch.randn(2, 3, shared, 9, 8)
    mask = torch.ones(3, 1, length, 9, dtype=torch.bool)
    mask[1, :, :, :4] = False
    module = SimpleNamespace(num_key_value_groups=6 // shared)
    for seen in (mask, None):
        expected, _ = sdpa_attention_forward(module, query, *cached, seen, scaling=0.3, is_causal=False)
        torch.testing.assert_close(attend(module, query, *cached, seen, scaling=0.3, is_causal=False)[0], expected)


def test_each_token_of_an_answer_is_the_likeliest(qwen2: Path) -> None:
    tokens = likeliest_tokens(qwen2, TRAM_PROMPT, 32)
    text = AutoTokenizer.from_pretrained(qwen2).decode(tokens)
    prompt_tokens = len(AutoTokenizer.from_pretrained(qwen2)(TRAM_PROMPT)["input_ids"])
    assert open_model(qwen2).generate([TRAM]) == [Completion(text, "length", prompt_tokens, 32)]


def test_an_answer_stops_before_any_of_the_models_end_tokens(model_folder: Path) -> None:
    tokens = likeliest_tokens(model_folder, TRAM_PROMPT, 6)
    set_generation(model_folder, eos_token_id=[2, tokens[5]])
    answer = open_model(model_folder).generate([TRAM])[0]
    assert answer.finish_reason == "stop"
    assert answer.completion_tokens == tokens.index(tokens[5])
    assert answer.text == AutoTokenizer.from_pretrained(model_folder).decode(tokens[: answer.completion_tokens])


def test_a_model_without_end_tokens_answers_at_full_length(model_folder: Path) -> None:
    set_generation(model_folder, pad_token_id=0)
    answer = open_model(model_folder).generate([TRAM])[0]
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 32)


def test_the_models_own_sampling_and_penalties_are_left_out(model_folder: Path) -> None:
    expected = open_model(model_folder).generate([TRAM])
    set_generation(
        model_folder,
        eos_token_id=2,
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        repetition_penalty=5.0,
    )
    assert open_model(model_folder).generate([TRAM]) == expected


def test_a_temperature_samples(qwen2: Path) -> None:
    model = open_model(qwen2, temperature=5.0)
    torch.manual_seed(0)
    first = model.generate([TRAM])
    assert model.generate([TRAM]) != first


def test_a_prompt_that_leaves_no_room_fails_alone_with_both_numbers(qwen2: Path) -> None:
    long = Request(system="", user=" a" * 600, question="", passages=[])
    first, refused, last = open_model(qwen2).generate([TRAM, long, TRAM])
    assert isinstance(refused, Failure)
    assert re.search(rf"has 6\d\d tokens, more than the {TINY_CONTEXT - 32} that .* for 32 new ones", refused.error)
    assert [first] == [last] == open_model(qwen2).generate([TRAM])


def test_without_a_chat_template_the_prompt_is_system_and_user(model_folder: Path) -> None:
    (model_folder / "chat_template.jinja").unlink()
    tokens = likeliest_tokens(model_folder, "Be brief.\n\nWhere does the tram stop?", 32)
    text = AutoTokenizer.from_pretrained(model_folder).decode(tokens)
    assert open_model(model_folder).generate([TRAM])[0].text == text


def test_an_empty_system_prompt_is_no_message(qwen2: Path) -> None:
    user_only = Request(system="", user="Where does the tram stop?", question="", passages=[])
    system_start = len("<|im_start|>system\nBe brief.<|im_end|>\n")
    tokens = AutoTokenizer.from_pretrained(qwen2)(TRAM_PROMPT[system_start:])["input_ids"]
    assert open_model(qwen2).generate([user_only])[0].prompt_tokens == len(tokens)


def test_no_requests_get_no_answers(qwen2: Path) -> None:
    assert open_model(qwen2).generate([]) == []


def test_a_gpu_that_fails_ends_its_worker(qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access\nSearch for it")

    monkeypatch.setattr(CausalLM, "_continue", fail)
    with pytest.raises(
        EngineDied, match=r"^the GPU failed: CUDA error: an illegal memory access; check it with nvidia-smi, "
    ):
        open_model(qwen2).generate([TRAM])
