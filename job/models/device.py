"""What the machine gives a model: its device, its fastest dtype, and batches that fit its memory."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

# bfloat16 changes vectors slightly, so it has to pay; and where it is hardly faster, two runs on one
# machine must not choose differently.
BFLOAT16_GAIN = 1.5
MEASURE_S = 0.3  # for each kind of product


@dataclass(frozen=True)
class Product:
    """A matrix product of [rows, inner] and [inner, outer], and of how many rows a model computes such ones."""

    rows: int
    inner: int
    outer: int
    share: float


ENCODER = (Product(128, 384, 1536, 1),)
# Of a prompt of 400 tokens, and of an answer of 64, a step of which is one row for each of 16 prompts: with so few,
# reading the weights, too many for a processor's caches, takes as long as the product.
GENERATOR = (Product(128, 1024, 4096, 400), Product(16, 1024, 16384, 64))


def pick_device(gpus: float) -> str:
    """`cuda` for an actor that reserves a share of a GPU. Ray doesn't always hide the GPUs from one that doesn't."""
    return "cuda" if gpus and torch.cuda.is_available() else "cpu"


def silence_libraries() -> None:
    """Keep the progress bars and advice of the model libraries out of the job's log."""
    from transformers.utils import logging  # here, since choosing a dtype needs torch alone

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def choose_dtype(wanted: str, gpus: float, products: tuple[Product, ...] = ENCODER) -> str:
    """`wanted`, or for `auto` the dtype that is fastest here, with `gpus` of a GPU reserved.

    That is float16 on CUDA, for a generator bfloat16. On a processor it is float32, unless `products` in bfloat16,
    measured, are at least `BFLOAT16_GAIN` times as fast.
    """
    if wanted != "auto":
        return wanted
    if pick_device(gpus) == "cuda":
        return "bfloat16" if products is GENERATOR else "float16"
    return "bfloat16" if bfloat16_gain(products) >= BFLOAT16_GAIN else "float32"


def bfloat16_gain(products: tuple[Product, ...]) -> float:
    """How many times as fast as in float32 a model whose work is `products` is in bfloat16.

    One thread measures: several would wait for each other on busy cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = [(product, fastest_seconds(product)) for product in products]
    torch.set_num_threads(threads)
    single, half = (
        sum(product.share / product.rows * fastest[dtype] for product, fastest in seconds)
        for dtype in (torch.float32, torch.bfloat16)
    )
    return single / half


def fastest_seconds(product: Product) -> dict[torch.dtype, float]:
    """Seconds of `product` in each dtype.

    The two take turns for `MEASURE_S`, and the fastest of each counts, so that what else the machine
    does slows both or neither.
    """
    fastest, end = {torch.float32: float("inf"), torch.bfloat16: float("inf")}, time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        for dtype in fastest:
            fastest[dtype] = min(fastest[dtype], product_seconds(product, dtype))
    return fastest


def product_seconds(product: Product, dtype: torch.dtype) -> float:
    """Seconds that this thread computes it once: waiting for a core isn't counted."""
    tokens = torch.ones(product.rows, product.inner, dtype=dtype)
    weights = torch.ones(product.outer, product.inner, dtype=dtype)
    start = time.thread_time()
    torch.nn.functional.linear(tokens, weights)
    return time.thread_time() - start


def run_batches(
    run: Callable[[list[int]], None], lengths: list[int], batch_size: int, batch_tokens: float = math.inf
) -> None:
    """Call `run` with the rows of one batch after the other, rows of about equal length together.

    A batch has at most `batch_size` rows, and at most `batch_tokens` tokens with each row as long as its longest.
    The longest rows come first, so that memory runs out at once or not at all; where CUDA's does,
    `batch_tokens` is halved from there on. Raises `torch.OutOfMemoryError` when one row alone is too much.
    """
    rows = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    while rows:
        longest = max(1, lengths[rows[0]])
        batch = rows[: max(1, int(min(batch_size, batch_tokens / longest)))]
        try:
            run(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_tokens = len(batch) // 2 * longest
        else:
            rows = rows[len(batch) :]
