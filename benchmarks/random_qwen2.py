"""A Qwen2 of Qwen2.5-0.5B's shape with random weights: as fast as the published one, and to be had without a hub."""

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.fakes import tiny_tokenizer

VOCABULARY = 151_936


def save_random_qwen2(folder: Path) -> Path:
    """Save it in `folder`, with a tokenizer whose 512 tokens are the first of its vocabulary."""
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        initializer_range=0.1,  # wide enough that rounding seldom swaps the two likeliest tokens
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder
