"""Generate answers with any causal language model that transformers can load."""

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from job.models.device import choose_dtype, pick_device, run_batches, silence_libraries
from job.models.generation import Completion, Request

# Any token does: padding is masked before an answer and cut off after it.
PAD_TOKEN = 0


class CausalLM:
    """The model in the folder `path`, on CUDA when `gpus` of one are reserved, else on `threads` threads.

    `dtype` is `float32`, `bfloat16`, `float16` or `auto`: bfloat16 on CUDA, else the faster one.
    `batch_size` counts prompts; a `temperature` of 0 means the likeliest token every time. Of the
    model's own generation settings only the tokens that end an answer count.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: str,
        batch_size: int,
        max_new_tokens: int,
        temperature: float,
        threads: int,
        gpus: float,
    ) -> None:
        silence_libraries()
        torch.set_num_threads(threads)
        self._device = pick_device(gpus)
        self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self._model = load_model(path, dtype, gpus)
        self._batch_size = batch_size
        self._max_new_tokens = max_new_tokens
        self._context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._end_tokens = end_tokens(self._model.generation_config)
        # Replaced whole: generate() would fill what is left open from the model's own penalties and top_p.
        self._model.generation_config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=self._end_tokens or None,
            pad_token_id=PAD_TOKEN,
            **sampling(temperature),
        )

    def generate(self, requests: list[Request]) -> list[Completion]:
        """Answer every request, in the order given.

        Raises `ValueError`, before any is answered, when a prompt leaves no room for its answer.
        """
        prompts = [self._encode(request) for request in requests]
        self._check_room(prompts)
        answers: list[list[int]] = [[] for _ in prompts]

        def run(rows: list[int]) -> None:
            for row, tokens in zip(rows, self._continue([prompts[row] for row in rows]), strict=True):
                answers[row] = tokens

        run_batches(run, [len(prompt) for prompt in prompts], self._batch_size)
        return [self._complete(*pair) for pair in zip(prompts, answers, strict=True)]

    def _encode(self, request: Request) -> list[int]:
        if self._tokenizer.chat_template is None:
            return self._tokenize(f"{request.system}\n\n{request.user}", add_special_tokens=True)
        roles = {"system": request.system, "user": request.user}
        messages = [{"role": role, "content": content} for role, content in roles.items() if content]
        text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # The template has written the special tokens already.
        return self._tokenize(text, add_special_tokens=False)

    def _tokenize(self, text: str, add_special_tokens: bool) -> list[int]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        return tokens

    def _check_room(self, prompts: list[list[int]]) -> None:
        if self._context is None:
            return
        limit = self._context - self._max_new_tokens
        longest = max(map(len, prompts), default=0)
        if longest > limit:
            raise ValueError(
                f"prompt has {longest} tokens, more than the {limit} that leave room for "
                f"{self._max_new_tokens} new ones"
            )

    @torch.inference_mode()
    def _continue(self, prompts: list[list[int]]) -> list[list[int]]:
        ids = pad_left([torch.tensor(prompt) for prompt in prompts])
        mask = pad_left([torch.ones(len(prompt), dtype=torch.long) for prompt in prompts])
        output = self._model.generate(ids.to(self._device), attention_mask=mask.to(self._device))
        new: list[list[int]] = output[:, ids.shape[1] :].tolist()
        return new

    def _complete(self, prompt: list[int], generated: list[int]) -> Completion:
        ends = [place for place, token in enumerate(generated) if token in self._end_tokens]
        answer = generated[: ends[0]] if ends else generated
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        return Completion(text, "stop" if ends else "length", len(prompt), len(answer))


def load_model(path: str, dtype: str, gpus: float) -> PreTrainedModel:
    device = pick_device(gpus)
    wanted = "bfloat16" if (dtype, device) == ("auto", "cuda") else choose_dtype(dtype, gpus)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, wanted), local_files_only=True)
    return model.to(device).eval()


def end_tokens(settings: GenerationConfig) -> list[int]:
    """The tokens that end an answer: models state one, several or none."""
    tokens = settings.eos_token_id
    if tokens is None:
        return []
    return tokens if isinstance(tokens, list) else [tokens]


def sampling(temperature: float) -> dict[str, Any]:
    # top_k 0 is all tokens; left out, it would be 50.
    return {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}


def pad_left(rows: list[torch.Tensor]) -> torch.Tensor:
    """int64 [len(rows), longest row], so that every row's last token is its last column."""
    return pad_sequence(rows, batch_first=True, padding_value=PAD_TOKEN, padding_side="left")
