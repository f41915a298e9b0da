import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from ragjob.errors import DataError
from ragjob.models.folder import find_folder
from ragjob.models.tokenizer import count_tokens, open_tokenizer


def test_long_texts_are_counted_whole_although_minilms_file_truncates(tokenizer: Tokenizer) -> None:
    assert count_tokens(tokenizer, ["tram " * 1000]) == [1000]


def test_short_texts_are_counted_without_padding_and_special_tokens(tokenizer: Tokenizer) -> None:
    assert count_tokens(tokenizer, ["The depot", "", "tram"]) == [2, 0, 1]


@pytest.fixture
def folder(minilm: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(minilm, tmp_path / "model"))


def test_a_model_without_a_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=rf"^embed.model: {folder} has no tokenizer.json; save one with"):
        open_tokenizer(find_folder(str(folder), "embed.model"))


@pytest.mark.parametrize("content", [b"{", b'{"version": 1}', b"\xff"])
def test_a_broken_tokenizer_is_named(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"^embed.model: {folder}: tokenizer.json is broken \(.*\); replace it$"):
        open_tokenizer(find_folder(str(folder), "embed.model"))
