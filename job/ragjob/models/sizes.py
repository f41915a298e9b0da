"""What a plan has to know about a model, from its small files and its listing: tokens, prefixes, width, bytes."""

from pathlib import PurePath
from typing import Any

from ragjob.errors import DataError
from ragjob.models.files import CONFIG, Source, read_json, static_folder, weights

# When a config doesn't say: wider than most embedding models, for a rough estimate that is safe.
DEFAULT_DIMENSION = 1024
DEFAULT_LAYERS = 24  # of a model about that wide
# As configs of BERT and most others, T5, DistilBERT, GPT-2, and older ones state the width of hidden states.
_DIMENSION_KEYS = ("hidden_size", "d_model", "dim", "n_embd", "hidden_dim")
_LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEAD_KEYS = ("num_attention_heads", "n_head", "num_heads")
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions")


def weights_bytes(source: Source) -> int:
    """Size of the weights. Raises `DataError` when their index lists a file that isn't there."""
    sizes = source.files.sizes
    files = weights(sizes)
    ending = PurePath(files[0]).suffix + ".index.json"
    for index in [path for path in sizes if path.endswith(ending)]:
        missing = set(read_json(source, index).get("weight_map", {}).values()) - sizes.keys()
        if missing:
            raise DataError(f"{source.key}: {source.name} has no {min(missing)}, which its {index} lists; add it")
    return sum(sizes[path] for path in files)


def context_tokens(source: Source) -> int | None:
    """Tokens that the model has positions for, or None when its config doesn't say."""
    return _stated(read_json(source, CONFIG), _CONTEXT_KEYS)


def max_tokens(source: Source) -> int | None:
    """Tokens of a text that an embedding model reads, special tokens included; None if it doesn't say."""
    return _stated(read_json(source, "sentence_bert_config.json"), ("max_seq_length",)) or context_tokens(source)


def prefix(source: Source, task: str) -> str:
    """What an embedding model puts before texts by itself: `task` is `query` or `document`."""
    prompts = read_json(source, "config_sentence_transformers.json").get("prompts")
    text = prompts.get(task) if isinstance(prompts, dict) else None
    return text if isinstance(text, str) else ""


def dimension(source: Source) -> int:
    """Width of the model's hidden states, or `DEFAULT_DIMENSION` when its config doesn't say."""
    return _stated(read_json(source, CONFIG), _DIMENSION_KEYS) or _static_dimension(source) or DEFAULT_DIMENSION


def labels(source: Source) -> int | None:
    """Scores that a cross-encoder gives for a pair, or None when its config doesn't say."""
    config = read_json(source, CONFIG)
    names = config.get("id2label")
    return len(names) if isinstance(names, dict) else _stated(config, ("num_labels",))


def layers(source: Source) -> int:
    """Layers of the model, or `DEFAULT_LAYERS` when its config doesn't say."""
    return _stated(read_json(source, CONFIG), _LAYER_KEYS) or (DEFAULT_LAYERS if static_folder(source) is None else 1)


def kv_bytes_a_token(source: Source, bytes_a_number: int) -> int | None:
    """Bytes that one token takes in a causal LM's KV cache, or None when its config doesn't say.

    Two, for key and value, x layers x KV heads x head dimension x bytes of a number. An upper bound where layers
    share heads or attend to a window only.
    """
    config = read_json(source, CONFIG)
    layers, heads = _stated(config, _LAYER_KEYS), _stated(config, _HEAD_KEYS)
    width = _stated(config, _DIMENSION_KEYS)
    if not (layers and heads and width):
        return None
    head = _stated(config, ("head_dim",)) or width // heads
    return 2 * layers * (_stated(config, ("num_key_value_heads",)) or heads) * head * bytes_a_number


def _static_dimension(source: Source) -> int | None:
    """Width of the table of a static embedding model: a row of single precision for each entry of the vocabulary."""
    if static_folder(source) is None:
        return None
    from ragjob.models.tokenizer import open_tokenizer

    return weights_bytes(source) // (4 * open_tokenizer(source).get_vocab_size())


def _stated(config: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    """The first of `keys` that is a number, in `config` or, for a model that takes more than text, in its text part."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for key in keys:
            if isinstance(value := part.get(key), int):
                return value
    return None
