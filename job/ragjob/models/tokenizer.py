"""Count tokens as a model does, without loading the model."""

from functools import lru_cache

from tokenizers import Tokenizer

from ragjob.errors import DataError
from ragjob.models import sizes
from ragjob.models.files import Source, read_json, static_folder
from ragjob.models.settings import Embed

TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


@lru_cache(maxsize=2)  # of the embedder and of the generator: a plan asks for each several times
def open_tokenizer(source: Source) -> Tokenizer:
    """The model's tokenizer, which neither truncates nor pads, and must not be changed. No weights are fetched.

    Raises `DataError` when the model has no `tokenizer.json`, or it is broken.
    """
    path = f"{static_folder(source) or ''}{TOKENIZER}"
    if path not in source.files.sizes:
        raise DataError(
            f"{source.key}: {source.name} has no {TOKENIZER}; save one with AutoTokenizer(...).save_pretrained"
        )
    content = source.files.read(path)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as error:
        raise DataError(f"{source.key}: {source.name}: {TOKENIZER} is broken ({error}); replace it") from error
    # MiniLM's file turns both on, at 128 tokens.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def chat_template(source: Source) -> str | None:
    """The model's chat template, or the default if it has several; None if it has none."""
    if CHAT_TEMPLATE in source.files.sizes:
        return source.files.read(CHAT_TEMPLATE).decode("utf-8", errors="replace")
    stated = read_json(source, TOKENIZER_CONFIG).get("chat_template")
    if isinstance(stated, list):
        named = {part.get("name"): part.get("template") for part in stated if isinstance(part, dict)}
        stated = named.get("default")
    return stated if isinstance(stated, str) else None


def special_tokens(source: Source) -> dict[str, str]:
    """The special tokens that the model's tokenizer has names for, such as `bos_token`."""
    stated = read_json(source, TOKENIZER_CONFIG).items()
    named = {name: token.get("content") if isinstance(token, dict) else token for name, token in stated}
    return {name: token for name, token in named.items() if name.endswith("_token") and isinstance(token, str)}


def tokens_around(tokenizer: Tokenizer, prefix: str) -> int:
    """Number of tokens that a model reads beside a text's own: those of `prefix`, and special tokens."""
    return int(tokenizer.num_special_tokens_to_add(is_pair=False)) + count_tokens(tokenizer, [prefix])[0]


def text_tokens(embed: Embed, source: Source, task: str) -> int | None:
    """Tokens of a text that an embedding model reads beside prefix and special tokens; None if it doesn't say.

    `task` is `query` or `document`. The number is below 1 where prefix and special tokens leave nothing.
    """
    limits = [limit for limit in (sizes.max_tokens(source), embed.max_length) if limit]
    if not limits or TOKENIZER not in source.files.sizes:
        return min(limits, default=None)
    return min(limits) - tokens_around(open_tokenizer(source), prefix(embed, source, task))


def prefix(embed: Embed, source: Source, task: str) -> str:
    """What is put before texts when they are embedded: what the settings say, else what the model says."""
    given: str | None = getattr(embed, f"{task}_prefix")
    return sizes.prefix(source, task) if given is None else given


def count_tokens(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    """Number of tokens of each text, special tokens left out."""
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
