"""Qwen2s of the published ones' shapes with random weights: as fast as those, and to be had without a hub."""

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.fakes import tiny_tokenizer

# Of Qwen2.5-0.5B and Qwen2.5-7B, by their config.json.
SHAPES = {
    "0.5B": {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "7B": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}


def save_random_qwen2(folder: Path) -> Path:
    """Save one of Qwen2.5-0.5B's shape in `folder`, with a tokenizer whose 512 tokens begin its vocabulary."""
    torch.manual_seed(0)
    Qwen2ForCausalLM(save_shape(folder, "0.5B")).save_pretrained(folder)
    return folder


def save_shape(folder: Path, name: str) -> Qwen2Config:
    """Save all but its weights of the shape of that name in `folder`."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        max_position_embeddings=32_768,
        initializer_range=0.1,  # wide enough that rounding seldom swaps the two likeliest tokens
        eos_token_id=tokenizer.eos_token_id,
        architectures=["Qwen2ForCausalLM"],
        **SHAPES[name],
    )
    config.save_pretrained(folder)
    return config
