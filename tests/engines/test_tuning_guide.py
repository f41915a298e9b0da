"""docs/tuning.md has the numbers that come out. They are of the engines transformers and vllm."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ragjob.models.capacity import batch_size, embedder_bytes, passage_flops
from tests.engines.proposing import INDEX, cpus, gpus, proposed
from tests.engines.shapes import MINILM, QWEN_05B, QWEN_7B, engine_of, given, listed

pytest.importorskip("ragjob.engines.transformers")
vllm = pytest.importorskip("ragjob.engines.vllm")

DOC = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text("utf-8")


@dataclass(frozen=True)
class Gpu:
    """Memory in GB, peak FLOP/s of dense products in half precision, and bytes/s of its memory, by its data sheet."""

    name: str
    gb: float
    flops: float
    bandwidth: float


GPUS = [
    Gpu("L4", 24, 121e12, 300e9),
    Gpu("A10", 24, 125e12, 600e9),
    Gpu("A100 40 GB", 40, 312e12, 1555e9),
    Gpu("A100 80 GB", 80, 312e12, 2039e9),
    Gpu("H100", 80, 989e12, 3350e9),
]
LLMS = {"Qwen2.5-0.5B": QWEN_05B, "Qwen2.5-7B": QWEN_7B}
# Bytes of embedding tables in half precision, which prefill needs none of: 0.5B's is tied to its output, 7B has two.
EMBEDDINGS = {"Qwen2.5-0.5B": 2 * 151_936 * 896, "Qwen2.5-7B": 2 * 2 * 152_064 * 3584}
REACHED = 0.4  # of the peak, by products of a model's size
CHUNKS_A_CPU = 1e6 / (4 * 200)  # a second: 1 MB of text, 4 bytes a token, 200 tokens a chunk


def table(*rows: tuple[object, ...]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def rounded(number: float) -> str:
    """Two digits of it that count."""
    return f"{float(f'{number:.1e}'):,.10g}"


def gpu_rows() -> Iterator[tuple[object, ...]]:
    yield "", "memory", "peak", "bandwidth", "FLOP per byte"
    for gpu in GPUS:
        peak, bandwidth = f"{gpu.flops / 1e12:g} TFLOP/s", f"{gpu.bandwidth / 1e9:,.0f} GB/s"
        yield gpu.name, f"{gpu.gb} GB", peak, bandwidth, f"{gpu.flops / gpu.bandwidth:.0f}"


def model_rows() -> Iterator[tuple[object, ...]]:
    yield "", "weights", "FLOP", "cache per token", "cache of 1,956 tokens"
    for name, model in LLMS.items():
        cache = (model.kv_token or 0) * engine_of(given(generate__engine="vllm"), listed(model)).sequence_tokens
        flops = f"{(model.weights - EMBEDDINGS[name]) / 1e9:.2f} G per token"
        yield name, f"{model.weights / 1e9:.2f} GB", flops, f"{model.kv_token:,} bytes", f"{cache / 1e6:.0f} MB"
    flops = f"{passage_flops(MINILM, 200) / 1e9:.2f} G per chunk of 200 tokens"
    yield "all-MiniLM-L6-v2", f"{MINILM.weights / 1e9:.2f} GB", flops, "none", "none"


def embed_rows() -> Iterator[tuple[object, ...]]:
    yield "", "chunks/s", "CPUs that cut that many", "memory of an actor", "share beside a generator"
    for gpu in GPUS:
        rate = REACHED * gpu.flops / passage_flops(MINILM, 200)
        need = embedder_bytes(MINILM, batch_size(MINILM, 200) * 200)
        proposals = proposed(gpus(1), QWEN_05B, index=INDEX, generate__engine="vllm", cluster__gpu_gb=gpu.gb)
        yield (
            gpu.name,
            rounded(rate),
            f"{rate / CHUNKS_A_CPU:.0f}",
            f"{need / 1e9:.1f} GB",
            proposals["embed.pool.num_gpus"],
        )


def generate_rows() -> Iterator[tuple[object, ...]]:
    yield (
        "",
        "model",
        "prompts that fit",
        "prefill",
        "decode",
        "prompts/s",
        "with 90 % of prompt tokens cached",
    )
    for gpu in GPUS:
        for name, model in LLMS.items():
            engine: Any = engine_of(given(generate__engine="vllm", cluster__gpu_gb=gpu.gb), listed(model))
            total, new = engine.sequence_tokens, engine.settings.max_new_tokens
            cache = (model.kv_token or 0) * total
            fitting = int((engine.kv_cache_bytes(1, model.weights) or 0) / cache)
            batch = min(fitting, vllm.arguments.SEQUENCES)
            prefill = REACHED * gpu.flops / (model.weights - EMBEDDINGS[name])
            decode = batch * gpu.bandwidth / (model.weights + batch * cache)
            plain, cached = (1 / (share * (total - new) / prefill + new / decode) for share in (1, 0.1))
            rates = f"{rounded(prefill)} tokens/s", f"{rounded(decode)} tokens/s"
            yield gpu.name, name, fitting, *rates, rounded(plain), rounded(cached)


def proposal_rows() -> Iterator[tuple[object, ...]]:
    yield "cluster", "job", "proposed"
    four = gpus(4, 4)
    for cluster, job, size, index, name in [
        ("4 nodes of 8 CPUs", "`index`", cpus(32, 4), INDEX, None),
        ("the same", "`answer`, transformers", cpus(32, 4), None, "Qwen2.5-0.5B"),
        ("4 nodes of 8 CPUs and an A10", "`index`", four, INDEX, None),
        ("the same", "`answer`, vllm", four, None, "Qwen2.5-7B"),
        ("the same", "`answer`, transformers", four, None, "Qwen2.5-0.5B"),
        ("the same", "`run`, vllm", four, INDEX, "Qwen2.5-0.5B"),
    ]:
        engine = re.sub(r"`\w+`,? ?", "", job) or "extractive"
        proposals = proposed(
            size, LLMS[name] if name else None, index=index, generate__engine=engine, cluster__gpu_gb=24
        )
        lines = "<br>".join(f"`{key}={value}`" for key, value in proposals.items())
        yield cluster, f"{job}, {name}" if name else job, lines or "none"


@pytest.mark.parametrize("rows", [gpu_rows, model_rows, embed_rows, generate_rows, proposal_rows])
def test_the_tables_of_the_tuning_guide_are_what_comes_out(rows: Any) -> None:
    assert f"<!-- {rows.__name__.removesuffix('_rows')} -->\n\n{table(*rows())}\n" in DOC
