"""Count tokens as a model does, without loading the model."""

from tokenizers import Tokenizer

from ragjob.errors import DataError
from ragjob.models.files import Source

TOKENIZER = "tokenizer.json"


def open_tokenizer(source: Source) -> Tokenizer:
    """The model's tokenizer, neither truncating nor padding. Its weights aren't fetched.

    Raises `DataError` when the model has no `tokenizer.json`, or it is broken.
    """
    if TOKENIZER not in source.files.sizes:
        raise DataError(
            f"{source.key}: {source.name} has no {TOKENIZER}; save one with AutoTokenizer(...).save_pretrained"
        )
    content = source.files.read(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as error:
        raise DataError(f"{source.key}: {source.name}: {TOKENIZER} is broken ({error}); replace it") from error
    # MiniLM's file turns both on, at 128 tokens.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_tokens(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    """Number of tokens of each text, special tokens left out."""
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
