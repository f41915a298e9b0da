"""Run a model of sentence-transformers on tokenised texts, in batches of about equal length."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ragjob.models.device import cut_batches, pick_device, run_batches

Features = Mapping[str, Any]

# Texts are tokenised all at once and padded batch by batch: without padding they come as lists.
UNPADDED = {"text": {"padding": False}, "common": {"return_tensors": None}}

# Of a batch on a processor: what a layer computes of it then stays in the processor's caches.
CACHED_TOKENS = 1024


def load_options(dtype: str, gpus: float) -> dict[str, Any]:
    """How to load a model in `dtype`, on CUDA when `gpus` of one are reserved."""
    device = pick_device(gpus)
    # An index made on CUDA is one of float16, over which a processor takes four times as long as over float32.
    exact = "float32" if (dtype, device) == ("float16", "cpu") else dtype
    return {
        "device": device,
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": {"dtype": getattr(torch, exact)},
    }


class Batches:
    """Runs `model`, a SentenceTransformer or a CrossEncoder, on CUDA if it is there, else on `threads` threads.

    On a processor each thread has batches of its own, of at most `CACHED_TOKENS` tokens: threads that share one wait
    for each other at every product.
    """

    def __init__(self, model: Any, batch_size: int, threads: int) -> None:
        self._model = model
        self._batch_size = batch_size
        # Threads may share the model: one tokenizes its block while the other's is computed.
        self._computing = Lock()
        on_cuda = model.device.type == "cuda"
        self._threads = (
            None if on_cuda else ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        )

    def compute(self, features: Features, forward: Callable[[Features], torch.Tensor]) -> npt.NDArray[np.float32]:
        """What `forward` returns for each text, in their order; `features` are of at least one, `UNPADDED`."""
        batches: list[tuple[list[int], torch.Tensor]] = []

        def run(rows: list[int]) -> None:
            batches.append((rows, forward(self._pad(features, rows))))

        lengths = [len(tokens) for tokens in features["input_ids"]]
        if self._threads:
            list(self._threads.map(run, cut_batches(lengths, self._batch_size, CACHED_TOKENS)))
        else:
            with self._computing:
                run_batches(run, lengths, self._batch_size)
        done, computed = zip(*batches, strict=True)
        # Moved once a block: a GPU computes one batch while the next is padded.
        moved = torch.cat(computed).cpu().numpy()
        ordered = np.empty_like(moved)
        ordered[list(chain.from_iterable(done))] = moved
        return ordered

    def _pad(self, features: Features, rows: list[int]) -> dict[str, Any]:
        per_text = {name: value for name, value in features.items() if isinstance(value, list)}
        batch = {name: [value[row] for row in rows] for name, value in per_text.items()}
        padded = self._model.tokenizer.pad(batch, return_tensors="pt")
        return {**features, **{name: move(tensor, self._model.device) for name, tensor in padded.items()}}


def move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; to CUDA from pinned memory, for which the caller doesn't wait."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
