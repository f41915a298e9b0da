"""A small corpus about a made-up tramway, prompts on it, and the answers to expect."""

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
PROMPTS = Path(__file__).parent / "prompts.jsonl"
EXPECTED = Path(__file__).parent / "expected.jsonl"
