"""What the machine gives a model: its device, its fastest dtype, and batches that fit its memory."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ragjob.errors import DependencyError, EngineDied

# bfloat16 changes vectors slightly, so it has to pay; and where it is hardly faster, two runs on one
# machine must not choose differently.
BFLOAT16_GAIN = 1.5
MEASURE_S = 0.3  # for each kind of product
DEVICES = Path("/dev")


@dataclass(frozen=True)
class Product:
    """A matrix product of [rows, inner] and [inner, outer], and how many such rows (`share`) a model computes."""

    rows: int
    inner: int
    outer: int
    share: float


@dataclass(frozen=True)
class Kind:
    """A kind of model: the products that it spends its time on, and its dtype on CUDA."""

    products: tuple[Product, ...]
    cuda: str


ENCODER = Kind((Product(128, 384, 1536, 1),), "float16")
# Of a prompt of 400 tokens, and of an answer of 64, a step of which is one row for each of 16 prompts: with so few,
# reading the weights, too many for a processor's caches, takes as long as the product.
GENERATOR = Kind((Product(128, 1024, 4096, 400), Product(16, 1024, 16384, 64)), "bfloat16")


def pick_device(gpus: float) -> str:
    """`cuda` for an actor that reserves a share of a GPU. Ray doesn't always hide the GPUs from others.

    Raises `DependencyError` when the node has a GPU that PyTorch can't use.
    """
    if not gpus:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if any(DEVICES.glob("nvidia[0-9]*")):
        raise DependencyError(
            f"num_gpus: PyTorch can't use the GPU of this node ({_why_not()}): update NVIDIA's driver there, install a "
            "build of PyTorch for it, or set the pool's num_gpus to 0"
        )
    return "cpu"


def _why_not() -> str:
    try:
        torch.empty(0, device="cuda")
    except Exception as error:  # noqa: BLE001 - only for the reason
        return _first_line(error)
    return "it finds none"


@contextmanager
def ending_with_gpu() -> Iterator[None]:
    """Raise `EngineDied` for an error of the GPU itself, after which nothing in this process can use it."""
    try:
        yield
    except torch.AcceleratorError as error:
        raise EngineDied(
            f"the GPU failed: {_first_line(error)}; check it with nvidia-smi, or use another node"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def silence_libraries() -> None:
    """Keep the progress bars and advice of the model libraries out of the job's log."""
    from transformers.utils import logging  # here, since choosing a dtype needs torch alone

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def choose_dtype(wanted: str, gpus: float, kind: Kind = ENCODER) -> str:
    """`wanted`, or for `auto` the dtype that is fastest here, with `gpus` of a GPU reserved.

    On CUDA that is the one of `kind`. On a processor it is float32, unless its products in bfloat16, measured, are at
    least `BFLOAT16_GAIN` times as fast.
    """
    if wanted != "auto":
        return wanted
    if pick_device(gpus) == "cuda":
        return kind.cuda
    return "bfloat16" if bfloat16_gain(kind) >= BFLOAT16_GAIN else "float32"


def bfloat16_gain(kind: Kind) -> float:
    """The speed of a model of this `kind` in bfloat16, as a multiple of its speed in float32.

    One thread measures: several would wait for each other on busy cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = [(product, fastest_seconds(product)) for product in kind.products]
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
    rows, outer = torch.ones(product.rows, product.inner), torch.ones(product.outer, product.inner)
    factors = {dtype: (rows.to(dtype), outer.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    fastest, end = dict.fromkeys(factors, float("inf")), time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        for dtype, (tokens, weights) in factors.items():
            fastest[dtype] = min(fastest[dtype], product_seconds(tokens, weights))
    return fastest


def product_seconds(tokens: torch.Tensor, weights: torch.Tensor) -> float:
    """Seconds that this thread takes to compute their product once, without waiting for a core."""
    start = time.thread_time()
    torch.nn.functional.linear(tokens, weights)
    return time.thread_time() - start


def cut_batches(lengths: list[int], batch_size: int, batch_tokens: float = math.inf) -> Iterator[list[int]]:
    """The rows of each batch in turn: rows of about equal length together, the longest first.

    A batch has at most `batch_size` rows, and at most `batch_tokens` tokens with each row as long as its longest.
    """
    rows = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    while rows:
        longest = max(1, lengths[rows[0]])
        batch = rows[: max(1, int(min(batch_size, batch_tokens / longest)))]
        yield batch
        rows = rows[len(batch) :]


def run_batches(
    run: Callable[[list[int]], None], lengths: list[int], batch_size: int, batch_tokens: float = math.inf
) -> None:
    """Call `run` with the rows of each batch in turn, as `cut_batches` gives them.

    With the longest first, memory runs out at once or not at all; if CUDA's does, that batch and all after it are
    halved. Raises `torch.OutOfMemoryError` when one row alone is too much.
    """
    most = batch_size
    for batch in cut_batches(lengths, batch_size, batch_tokens):
        while batch:
            try:
                run(batch[:most])
            except torch.OutOfMemoryError:
                if min(most, len(batch)) == 1:
                    raise
                most = min(most, len(batch)) // 2
            else:
                batch = batch[most:]
