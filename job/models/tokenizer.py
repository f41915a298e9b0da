"""Count tokens as a model does, without loading the model."""

from pathlib import Path

from tokenizers import Tokenizer

from job.errors import DataError


def open_tokenizer(path: str) -> Tokenizer:
    """The tokenizer of the model in the folder `path`, neither truncating nor padding.

    Raises `DataError` when the folder has no `tokenizer.json`.
    """
    file = Path(path) / "tokenizer.json"
    if not file.is_file():
        raise DataError(f"{path} has no tokenizer.json: save one with AutoTokenizer(...).save_pretrained")
    tokenizer = Tokenizer.from_file(str(file))
    # MiniLM's file turns both on, at 128 tokens.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_tokens(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    """Number of tokens of each text, special tokens left out."""
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
