from pathlib import Path

import pytest

from job.errors import DataError
from job.models.tokenizer import count_tokens, open_tokenizer


def test_long_texts_are_counted_whole_although_minilms_file_truncates(minilm: str) -> None:
    assert count_tokens(open_tokenizer(minilm), ["tram " * 1000]) == [1000]


def test_short_texts_are_counted_without_padding_and_special_tokens(minilm: str) -> None:
    assert count_tokens(open_tokenizer(minilm), ["The depot", "", "tram"]) == [2, 0, 1]


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path} has no tokenizer\.json"):
        open_tokenizer(str(tmp_path))
