"""Generate answers with any causal language model that transformers can load."""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.chat import Chat, Generated, Tokens
from ragjob.models.device import GENERATOR, choose_dtype, ending_with_gpu, pick_device, run_batches, silence_libraries

# Any token does: padding is masked before an answer and cut off after it.
PAD_TOKEN = 0


class CausalLM:
    """The model in the folder `path`, on CUDA when `gpus` of one are reserved, else on `threads` threads.

    `dtype` is `float32`, `bfloat16`, `float16` or `auto`: bfloat16 on CUDA, else the faster one.
    A batch has at most `batch_size` prompts, and at most `batch_tokens` tokens of prompts and answers, of which it
    keeps keys and values. A `temperature` of 0 means the likeliest token every time. Of the model's own generation
    settings only the tokens that end an answer count.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: str,
        batch_size: int,
        batch_tokens: int,
        max_new_tokens: int,
        temperature: float,
        threads: int,
        gpus: float,
    ) -> None:
        silence_libraries()
        torch.set_num_threads(threads)
        self._device = pick_device(gpus)
        self._model = load_model(path, dtype, gpus)
        self._chat = Chat(path, max_new_tokens)
        self._batch_size, self._batch_tokens, self._new = batch_size, batch_tokens, max_new_tokens
        # Replaced whole: generate() would fill what is left open from the model's own penalties and top_p.
        self._model.generation_config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=self._chat.end_tokens or None,
            pad_token_id=PAD_TOKEN,
            **sampling(temperature),
        )

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        """Answer every request, in the order given; a prompt that leaves no room for its answer fails alone."""
        return self._chat.answer(requests, self._run)

    @ending_with_gpu()
    def _run(self, prompts: list[Tokens]) -> list[Generated | Failure]:
        generated: list[Generated | Failure] = [Generated([]) for _ in prompts]

        def run(rows: list[int]) -> None:
            for row, tokens in zip(rows, self._continue([prompts[row] for row in rows]), strict=True):
                generated[row] = Generated(tokens)

        run_batches(run, [len(prompt) + self._new for prompt in prompts], self._batch_size, self._batch_tokens)
        return generated

    @torch.inference_mode()
    def _continue(self, prompts: list[Tokens]) -> list[Tokens]:
        ids = pad_left([torch.tensor(prompt) for prompt in prompts])
        mask = pad_left([torch.ones(len(prompt), dtype=torch.long) for prompt in prompts])
        output = self._model.generate(ids.to(self._device), attention_mask=mask.to(self._device))
        new: list[Tokens] = output[:, ids.shape[1] :].tolist()
        return new


def load_model(path: str, dtype: str, gpus: float) -> PreTrainedModel:
    AttentionInterface.register("sdpa", attend)
    precision = getattr(torch, choose_dtype(dtype, gpus, GENERATOR))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=precision, local_files_only=True, trust_remote_code=False)
    return model.to(pick_device(gpus)).eval()


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **arguments: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token per row, [rows, heads, 1, size], to keys and values that several heads share.

    transformers' own, which does the rest, copies the whole cache once for every head where prompts are padded: on a
    processor a batch of 32 spent longer in that than in everything else.
    """
    (rows, heads, length, size), shared = query.shape, key.shape[1]
    if length > 1 or shared == heads or arguments.get("position_bias") is not None:
        attention: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **arguments
        )
        return attention
    # The heads that share a key stand where a prompt's tokens would.
    grouped = query.reshape(rows, shared, heads // shared, size)
    attended = scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    return attended.reshape(rows, 1, heads, -1), None


def sampling(temperature: float) -> dict[str, Any]:
    # top_k 0 is all tokens; left out, it would be 50.
    return {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}


def pad_left(rows: list[torch.Tensor]) -> torch.Tensor:
    """int64 [len(rows), longest row], so that every row's last token is its last column."""
    return pad_sequence(rows, batch_first=True, padding_value=PAD_TOKEN, padding_side="left")
