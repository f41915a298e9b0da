"""What the machine gives a model: its device, its fastest dtype, and batches that fit its memory."""

import time
from collections.abc import Callable

import torch

# bfloat16 changes vectors slightly, so it has to pay; and where it is hardly faster, two runs on one
# machine must not choose differently.
BFLOAT16_GAIN = 1.5
MEASURE_S = 0.3


def pick_device(gpus: float) -> str:
    """`cuda` for an actor that reserves a share of a GPU. Ray doesn't always hide the GPUs from one that doesn't."""
    return "cuda" if gpus and torch.cuda.is_available() else "cpu"


def silence_libraries() -> None:
    """Keep the progress bars and advice of the model libraries out of the job's log."""
    from transformers.utils import logging  # here, since choosing a dtype needs torch alone

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def choose_dtype(wanted: str, gpus: float) -> str:
    """`wanted`, or for `auto` the dtype that is fastest here, with `gpus` of a GPU reserved.

    That is float16 on CUDA. On a processor it is float32, unless bfloat16, measured, is at least
    `BFLOAT16_GAIN` times as fast.
    """
    if wanted != "auto":
        return wanted
    if pick_device(gpus) == "cuda":
        return "float16"
    return "bfloat16" if bfloat16_gain() >= BFLOAT16_GAIN else "float32"


def bfloat16_gain() -> float:
    """How many times as fast as in float32 a matrix product of MiniLM's shape is in bfloat16.

    The two take turns for `MEASURE_S`, and the fastest of each counts, so that what else the machine
    does slows both or neither. One thread does it: several would wait for each other on busy cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastest, end = {torch.float32: float("inf"), torch.bfloat16: float("inf")}, time.perf_counter() + MEASURE_S
    while time.perf_counter() < end:
        for dtype in fastest:
            fastest[dtype] = min(fastest[dtype], product_seconds(dtype))
    torch.set_num_threads(threads)
    return fastest[torch.float32] / fastest[torch.bfloat16]


def product_seconds(dtype: torch.dtype) -> float:
    """Seconds that this thread computes one matrix product: waiting for a core isn't counted."""
    tokens, weights = torch.ones(128, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
    start = time.thread_time()
    torch.mm(tokens, weights)
    return time.thread_time() - start


def run_batches(run: Callable[[list[int]], None], lengths: list[int], batch_size: int) -> None:
    """Call `run` with the rows of one batch after the other, rows of about equal length together.

    The longest rows come first, so that memory runs out at once or not at all; where CUDA's does,
    the batches are halved from there on. Raises `torch.OutOfMemoryError` when one row alone is too much.
    """
    rows = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    while rows:
        batch = rows[:batch_size]
        try:
            run(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_size = len(batch) // 2
        else:
            rows = rows[len(batch) :]
