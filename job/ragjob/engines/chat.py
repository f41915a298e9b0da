"""What the engines that hold a causal LM share: requests to tokens by its chat template, tokens to answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.chat_template import ChatTemplate
from ragjob.engines.controls import disarm, pattern

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
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        self._template = _chat_template(self._tokenizer)
        self._controls = self._control_tokens()
        self._written_out = pattern(self._controls.values())
        self._expected: dict[tuple[str, str], int] = {}
        self._max_new_tokens = max_new_tokens
        self._context = context or getattr(config.get_text_config(), "max_position_embeddings", None)
        self.end_tokens = _end_tokens(path, config)

    def answer(
        self, requests: list[Request], run: Callable[[list[Tokens]], list[Generated | Failure]]
    ) -> list[Completion | Failure]:
        """Have `run` continue the prompts that fit the model; the others fail."""
        prompts = [self._fitting(prompt) if isinstance(prompt, list) else prompt for prompt in self.encode(requests)]
        fitting = [prompt for prompt in prompts if isinstance(prompt, list)]
        generated = iter(run(fitting) if fitting else [])
        return [self._complete(prompt, next(generated)) if isinstance(prompt, list) else prompt for prompt in prompts]

    def encode(self, requests: list[Request]) -> list[Tokens | Failure]:
        """The tokens of each request, by the chat template where the model has one.

        Control tokens come only from the template and the settings: one that is written out in a passage or question is
        read as text.
        """
        if not requests:
            return []
        tokenized = self._tokenize([(request.system, request.user) for request in requests])
        return [self._checked(request, tokens) for request, tokens in zip(requests, tokenized, strict=True)]

    def _checked(self, request: Request, tokens: Tokens) -> Tokens | Failure:
        """`tokens` of the request, or those of its text with control tokens disarmed."""
        expected = self._expected_controls(request.system, request.bare)
        if self._count_controls(tokens) == expected:
            return tokens
        (tokens,) = self._tokenize([(request.system, disarm(request.user, self._written_out))])
        if self._count_controls(tokens) == expected:
            return tokens
        return Failure(
            "the passages or the question contain control tokens of the model; remove them, also from augment.template"
        )

    def _expected_controls(self, system: str, bare: str) -> int:
        """How many control tokens a prompt has, whatever its passages and question are."""
        if (system, bare) not in self._expected:
            (tokens,) = self._tokenize([(system, bare)])
            self._expected[system, bare] = self._count_controls(tokens)
        return self._expected[system, bare]

    def _count_controls(self, tokens: Tokens) -> int:
        return sum(token in self._controls for token in tokens)

    def _tokenize(self, prompts: list[tuple[str, str]]) -> list[Tokens]:
        """The tokens of each pair of system and user."""
        template = self._template
        texts = [template.fill(*prompt) if template else "\n\n".join(prompt) for prompt in prompts]
        # A chat template has written the special tokens already.
        tokens: list[Tokens] = self._tokenizer(texts, add_special_tokens=template is None)["input_ids"]
        return tokens

    def _control_tokens(self) -> dict[int, str]:
        """The special tokens, and those of the chat template that aren't marked as such, by id."""
        tokenizer, added = self._tokenizer, self._tokenizer.added_tokens_decoder
        special = {number: str(token) for number, token in added.items() if token.special}
        special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        # The token for unknown letters controls nothing. A tokenizer that knows all of them uses the name otherwise.
        model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
        harmless = {getattr(model, "unk_token", tokenizer.unk_token)} - {tokenizer.eos_token}
        special = {number: token for number, token in special.items() if token not in harmless}
        (framing,) = self._tokenize([("", "")])
        framing = [number for number in framing if number in added and str(added[number]).strip()]
        return special | {number: str(added[number]) for number in framing}

    def _fitting(self, prompt: Tokens) -> Tokens | Failure:
        """The prompt, if it leaves room for an answer."""
        if self._context is None or len(prompt) <= self._context - self._max_new_tokens:
            return prompt
        limit, new = self._context - self._max_new_tokens, self._max_new_tokens
        return Failure(
            f"prompt has {len(prompt)} tokens, more than the {limit} that leave room for {new} new ones; shorten it, "
            "or lower augment.max_context_tokens"
        )

    def _complete(self, prompt: Tokens, generated: Generated | Failure) -> Completion | Failure:
        if isinstance(generated, Failure):
            return generated
        ends = [place for place, token in enumerate(generated.tokens) if token in self.end_tokens]
        answer = generated.tokens[: ends[0]] if ends else generated.tokens
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        return Completion(text, "stop" if ends else "length", len(prompt), len(answer), generated.cached)


def _chat_template(tokenizer: Any) -> ChatTemplate | None:
    """The chat template of a tokenizer, if it has one."""
    if tokenizer.chat_template is None:
        return None
    return ChatTemplate.of(tokenizer.get_chat_template(), tokenizer.special_tokens_map)


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
