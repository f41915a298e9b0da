import json
from pathlib import Path

import pytest

from ragjob.errors import DataError
from ragjob.models.files import Source
from ragjob.models.folder import find_folder
from ragjob.models.sizes import (
    DEFAULT_DIMENSION,
    context_tokens,
    dimension,
    kv_bytes_a_token,
    max_tokens,
    weights_bytes,
)

KEY = "embed.model"
INDEX = "model.safetensors.index.json"


def model(folder: Path, config: str, **files: str) -> Source:
    """A model with that config and two bytes of weights; `files` by name, with `__` for the dot."""
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"12")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return find_folder(str(folder), KEY)


def test_the_sizes_of_minilm(embedding_model: Source) -> None:
    assert weights_bytes(embedding_model) == 90868376
    assert (dimension(embedding_model), max_tokens(embedding_model), context_tokens(embedding_model)) == (384, 256, 512)


def test_weights_are_counted_once_where_both_formats_are_there(tmp_path: Path) -> None:
    assert weights_bytes(model(tmp_path, "{}", pytorch_model__bin="123")) == 2


def test_bin_weights_count_where_there_are_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"123")
    assert weights_bytes(find_folder(str(tmp_path), KEY)) == 3


def test_weights_that_their_index_lists_and_that_arent_there_are_named(tmp_path: Path) -> None:
    weight_map = {"a": "model.safetensors", "b": "model-2.safetensors"}
    broken = model(tmp_path, "{}", **{INDEX.replace(".", "__"): json.dumps({"weight_map": weight_map})})
    with pytest.raises(DataError, match=rf"^embed.model: {tmp_path} has no model-2.safetensors, which its {INDEX} li"):
        weights_bytes(broken)


def test_an_index_of_weights_in_the_other_format_is_passed_over(tmp_path: Path) -> None:
    both = model(tmp_path, "{}", pytorch_model__bin__index__json='{"weight_map": {"a": "pytorch_model-1.bin"}}')
    assert weights_bytes(both) == 2


@pytest.mark.parametrize(
    "config", ['"hidden_size": 8', '"d_model": 8', '"dim": 8', '"n_embd": 8', '"text_config": {"hidden_size": 8}']
)
def test_the_dimension_is_found_under_the_names_that_configs_give_it(tmp_path: Path, config: str) -> None:
    assert dimension(model(tmp_path, f"{{{config}}}")) == 8


@pytest.mark.parametrize(
    "config", ['"max_position_embeddings": 16', '"n_positions": 16', '"text_config": {"max_position_embeddings": 16}']
)
def test_the_context_is_found_under_the_names_that_configs_give_it(tmp_path: Path, config: str) -> None:
    assert context_tokens(model(tmp_path, f"{{{config}}}")) == 16


def test_a_config_that_states_no_sizes_is_no_error(tmp_path: Path) -> None:
    silent = model(tmp_path, "{}")
    assert (context_tokens(silent), max_tokens(silent), dimension(silent)) == (None, None, DEFAULT_DIMENSION)


def test_the_cache_of_a_token_is_two_numbers_for_each_layer_head_and_dimension(tmp_path: Path) -> None:
    shape = '"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 40'
    assert kv_bytes_a_token(model(tmp_path, f"{{{shape}}}"), 2) == 2 * 3 * 4 * 10 * 2
    assert kv_bytes_a_token(model(tmp_path, f'{{{shape}, "num_key_value_heads": 2}}'), 2) == 2 * 3 * 2 * 10 * 2
    assert kv_bytes_a_token(model(tmp_path, f'{{"text_config": {{{shape}, "head_dim": 7}}}}'), 4) == 2 * 3 * 4 * 7 * 4
    assert kv_bytes_a_token(model(tmp_path, "{}"), 2) is None


def test_a_sentence_models_own_limit_goes_before_its_positions(tmp_path: Path) -> None:
    config, limits = '{"max_position_embeddings": 16}', '{"max_seq_length": 12}'
    assert max_tokens(model(tmp_path, config, sentence_bert_config__json=limits)) == 12
    assert max_tokens(model(tmp_path, config, sentence_bert_config__json='{"max_seq_length": null}')) == 16


@pytest.mark.parametrize(("config", "message"), [("{", r"isn't JSON \(Expecting .*\)"), ("[]", "isn't a JSON object")])
def test_a_broken_config_is_a_data_error_that_names_the_file(tmp_path: Path, config: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"^embed.model: {tmp_path}: config.json {message}; correct or replace it$"):
        dimension(model(tmp_path, config))


def test_a_broken_file_of_a_sentence_model_is_a_data_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^embed.model: {tmp_path}: sentence_bert_config.json isn't JSON [^\n]*$"):
        max_tokens(model(tmp_path, "{}", sentence_bert_config__json="max"))
