"""What the machine gives a model: its device, its fastest dtype, and batches that fit its memory."""

import time
from collections.abc import Callable

import torch

# bfloat16 changes vectors slightly, so it has to pay; timings on shared cores vary by about a tenth.
BFLOAT16_GAIN = 1.25
MEASURE_S = 0.1


def pick_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def silence_libraries() -> None:
    """Keep the progress bars and advice of the model libraries out of the job's log."""
    from transformers.utils import logging  # here, since choosing a dtype needs torch alone

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def choose_dtype(wanted: str, threads: int) -> str:
    """`wanted`, or for `auto` the dtype that is fastest on this machine with `threads` threads.

    That is float16 on CUDA. On a processor it is float32, unless bfloat16, measured, is at least
    `BFLOAT16_GAIN` times as fast.
    """
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "float16"
    torch.set_num_threads(threads)
    gain = product_seconds(torch.float32) / product_seconds(torch.bfloat16)
    return "bfloat16" if gain >= BFLOAT16_GAIN else "float32"


def product_seconds(dtype: torch.dtype) -> float:
    """Seconds of one matrix product of MiniLM's shape: the fastest of those done in `MEASURE_S`."""
    tokens, weights = torch.ones(512, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
    fastest, end = float("inf"), time.perf_counter() + MEASURE_S
    while (start := time.perf_counter()) < end:
        torch.mm(tokens, weights)
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


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
