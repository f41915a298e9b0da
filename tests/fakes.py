"""Stand-ins for what can't be had in a test: a language model of a megabyte, a device that runs full."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ragjob.engines.base import Completion, Failure, Request
from ragjob.models.device import silence_libraries
from ragjob.models.embedder import Vectors
from ragjob.retrieval.base import Hit
from ragjob.retrieval.where import Condition
from tests.passages import make_passage

CORPUS = Path(__file__).parent.parent / "job" / "ragjob" / "cli" / "sample" / "corpus"
TINY_CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_qwen2(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Qwen2 with tokenizer and chat template in `folder`, as a published model is."""
    silence_libraries()
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # of 32 each: vLLM computes no smaller ones on a processor
        num_key_value_heads=1,
        max_position_embeddings=TINY_CONTEXT,
        # With 0.1 and seed 0 the likeliest token leads by over thirty times the rounding error of
        # float32, so that no batch swaps two; wider weights add more rounding than lead.
        initializer_range=0.1,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(file) for file in sorted(CORPUS.glob("*.md"))], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def likeliest_tokens(folder: Path, prompt: str, count: int) -> list[int]:
    """The plainest greedy decoding there is: the whole text anew for every token, no cache, no batch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens: list[int] = tokenizer(prompt)["input_ids"]
    with torch.inference_mode():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[-count:]


def set_generation(folder: Path, **settings: object) -> None:
    """Write the model's own generation settings, as its publisher would."""
    (folder / "generation_config.json").write_text(json.dumps(settings))


class ScarceDevice:
    """A device whose memory holds `rows` rows; `done` are the batches that went through."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.done: list[list[int]] = []

    def run(self, batch: list[int]) -> None:
        if len(batch) > self._rows:
            raise torch.OutOfMemoryError
        self.done.append(batch)


POISON = "poison"
REFUSED = "refused"


def embed_lengths(texts: list[str]) -> Vectors:
    """Embed each text as its length and 1; a batch with `POISON` in it fails, one with a blank text gives NaN."""
    if POISON in texts:
        raise RuntimeError("CUDA error:\n device-side assert")
    return np.array([[len(text) if text.strip() else np.nan, 1] for text in texts], np.float32)


class LengthRetriever:
    """Finds passages for what `embed_lengths` embeds, named after it; a batch with a length of 13 fails."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def search(self, questions: list[str], vectors: Vectors, conditions: list[Condition | None]) -> list[list[Hit]]:
        if 13 in vectors[:, 0]:
            raise RuntimeError("no such vector")
        scores = [0.9, 0.6, 0.3][: self._top_k]
        return [
            [Hit(make_passage(f"{length:g}@{score}", equals=7), score, score / 2) for score in scores]
            for length, _ in vectors
        ]


class EchoGenerator:
    """Answers with all that it is given but to `REFUSED`; a batch with `POISON` in it fails."""

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        if any(request.question == POISON for request in requests):
            raise RuntimeError("the prompt is too long")
        return [
            Completion(f"{r.system}|{r.user}|{r.question}|{r.passages}", "stop", len(r.user), 1)
            if r.question != REFUSED
            else Failure("not that")
            for r in requests
        ]
