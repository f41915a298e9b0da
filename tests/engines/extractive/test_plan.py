"""What a plan says of the extractive engine."""

from dataclasses import replace

from ragjob.planning.memory import actor_bytes
from tests.engines.shapes import MINILM, QWEN_05B, engine_of, given, listed


def test_it_needs_no_environment_and_one_block_at_once() -> None:
    engine = engine_of(given(), listed(QWEN_05B))
    assert engine.environment() == {}
    assert engine.blocks_at_once(256) == 1


def test_it_holds_the_embedder_alone_and_only_where_sentences_have_no_vectors() -> None:
    embedder = listed(MINILM, "embed.model")
    engine = engine_of(given(), listed(QWEN_05B), embedder)
    assert actor_bytes(embedder, [engine])["generate"] == MINILM.weights
    spared = replace(engine, around=replace(engine.around, sentences=True))
    assert actor_bytes(embedder, [spared])["generate"] == 0
    assert engine.label == "extractive:model@1"
    assert engine.deciding() == {"engine": "extractive"}
