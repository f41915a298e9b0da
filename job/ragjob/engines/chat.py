"""What the engines that hold a causal LM share: requests to tokens by its chat template, tokens to answers."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from ragjob.engines.base import Completion, Failure, Request

Tokens = list[int]


@dataclass(frozen=True)
class Generated:
    """Tokens that continue a prompt, and how many of the prompt's the engine had computed before."""

    tokens: Tokens
    cached: int = 0


class Chat:
    """Tokenizer and chat template of the model in the folder `path`, and the tokens that end its answers.

    `context` is how many tokens prompt and answer may have together; by default the model's own limit.
    """

    def __init__(self, path: str, max_new_tokens: int, context: int | None = None) -> None:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self._max_new_tokens = max_new_tokens
        self._context = context or getattr(config.get_text_config(), "max_position_embeddings", None)
        self.end_tokens = _end_tokens(path, config)

    def answer(
        self, requests: list[Request], run: Callable[[list[Tokens]], list[Generated | Failure]]
    ) -> list[Completion | Failure]:
        """Have `run` continue the prompts that fit the model; the others fail."""
        prompts = self.encode(requests)
        refused = [self._refuse(prompt) for prompt in prompts]
        fitting = [prompt for prompt, refusal in zip(prompts, refused, strict=True) if refusal is None]
        found = iter(run(fitting) if fitting else [])
        return [
            refusal or self._complete(prompt, next(found)) for prompt, refusal in zip(prompts, refused, strict=True)
        ]

    def encode(self, requests: list[Request]) -> list[Tokens]:
        """The tokens of each request, by the chat template where the model has one."""
        if not requests:
            return []
        templated = self._tokenizer.chat_template is not None
        texts = [self._fill(request) if templated else f"{request.system}\n\n{request.user}" for request in requests]
        # A chat template has written the special tokens already.
        tokens: list[Tokens] = self._tokenizer(texts, add_special_tokens=not templated)["input_ids"]
        return tokens

    def _fill(self, request: Request) -> str:
        roles = {"system": request.system, "user": request.user}
        messages = [{"role": role, "content": content} for role, content in roles.items() if content]
        text: str = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text

    def _refuse(self, prompt: Tokens) -> Failure | None:
        if self._context is None or len(prompt) <= self._context - self._max_new_tokens:
            return None
        limit, new = self._context - self._max_new_tokens, self._max_new_tokens
        return Failure(f"prompt has {len(prompt)} tokens, more than the {limit} that leave room for {new} new ones")

    def _complete(self, prompt: Tokens, found: Generated | Failure) -> Completion | Failure:
        if isinstance(found, Failure):
            return found
        ends = [place for place, token in enumerate(found.tokens) if token in self.end_tokens]
        answer = found.tokens[: ends[0]] if ends else found.tokens
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        return Completion(text, "stop" if ends else "length", len(prompt), len(answer), found.cached)


def _end_tokens(path: str, config: object) -> list[int]:
    """The tokens that end an answer: models state one, several or none."""
    try:
        settings = GenerationConfig.from_pretrained(path, local_files_only=True)
    except OSError:  # the model has no generation_config.json
        settings = GenerationConfig.from_model_config(config)
    tokens = settings.eos_token_id
    if tokens is None:
        return []
    return tokens if isinstance(tokens, list) else [tokens]
