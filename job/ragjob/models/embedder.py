"""Turn texts into unit vectors with any sentence-transformers model."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from ragjob.errors import SettingsError
from ragjob.models.device import cut_batches, ending_with_gpu, pick_device, run_batches, silence_libraries
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.models.source import loading

Vectors = npt.NDArray[np.float32]

# Texts are tokenised all at once and padded batch by batch: without padding they come as lists.
UNPADDED = {"text": {"padding": False}, "common": {"return_tensors": None}}

# Of a batch on a processor: what a layer computes of it then stays in the processor's caches.
CACHED_TOKENS = 1024


class Embedder:
    """The model in the folder `path`, on CUDA when `gpus` of one are reserved, else on `threads` threads.

    On a processor each thread has batches of its own, of at most `CACHED_TOKENS` tokens: threads that share one wait
    for each other at every product.

    `dtype` is `float32`, `bfloat16` or `float16`, which is for CUDA: a processor does it in float32.
    `batch_size` counts texts, `max_length` tokens. A prefix of `None`, and a `max_length` of `None`, is the
    model's own. Raises `SettingsError` when `max_length` is more than the model has positions for.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: str,
        batch_size: int,
        max_length: int | None,
        query_prefix: str | None,
        document_prefix: str | None,
        threads: int,
        gpus: float,
    ) -> None:
        silence_libraries()
        device = pick_device(gpus)
        # An index made on CUDA is one of float16, over which a processor takes four times as long as over float32.
        exact = "float32" if (dtype, device) == ("float16", "cpu") else dtype
        self._model = SentenceTransformer(
            path,
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": getattr(torch, exact)},
        ).eval()
        self._batch_size = batch_size
        # Threads may share the model: one tokenizes its block while the other's is computed.
        self._tokenizing, self._computing = Lock(), Lock()
        self._threads = (
            None if device == "cuda" else ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        )
        self._prefixes = {"query": query_prefix, "document": document_prefix}
        if max_length is not None:
            self._limit_length(max_length)

    def _limit_length(self, max_length: int) -> None:
        if isinstance(self._model[0], StaticEmbedding):
            self._model[0].tokenizer.enable_truncation(max_length)
            return
        positions = getattr(self._model[0].config, "max_position_embeddings", max_length)
        if max_length > positions:
            raise SettingsError(f"embed.max_length: {max_length} is more than the model's {positions} tokens")
        self._model.max_seq_length = max_length

    @property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension())

    def embed_documents(self, texts: list[str]) -> Vectors:
        """Unit vectors of passages, float32 [len(texts), dimension], in their order."""
        return self._embed_each_once(texts, "document")

    def embed_queries(self, texts: list[str]) -> Vectors:
        """Unit vectors of questions, float32 [len(texts), dimension], in their order."""
        return self._embed_each_once(texts, "query")

    def _embed_each_once(self, texts: list[str], task: str) -> Vectors:
        # A text's vector depends a little on the batch it is in: equal texts share one.
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        return self._embed(list(rows), task)[[rows[text] for text in texts]]

    @ending_with_gpu()
    def _embed(self, texts: list[str], task: str) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        with self._tokenizing:
            features = self._tokenize(texts, task)
        if isinstance(self._model[0], StaticEmbedding):  # whose texts stand one after the other, without padding
            moved = {name: move(tensor, self._model.device) for name, tensor in features.items()}
            return self._forward(moved, task).cpu().numpy()
        found: list[tuple[list[int], torch.Tensor]] = []

        def run(rows: list[int]) -> None:
            found.append((rows, self._forward(self._pad(features, rows), task)))

        lengths = [len(tokens) for tokens in features["input_ids"]]
        if self._threads:
            list(self._threads.map(run, cut_batches(lengths, self._batch_size, CACHED_TOKENS)))
        else:
            with self._computing:
                run_batches(run, lengths, self._batch_size)
        done, computed = zip(*found, strict=True)
        # Moved once a block: a GPU computes one batch while the next is padded.
        vectors[list(chain.from_iterable(done))] = torch.cat(computed).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ValueError("vectors aren't finite: set embed.dtype to bfloat16 or float32")
        return vectors

    def _tokenize(self, texts: list[str], task: str) -> Mapping[str, Any]:
        prefix = self._prefixes[task]
        if prefix is None:
            prefix = self._model.prompts.get(task, "")
        features: Mapping[str, Any] = self._model.preprocess(
            texts, prompt=prefix, task=task, processing_kwargs=UNPADDED
        )
        return features

    def _pad(self, features: Mapping[str, Any], rows: list[int]) -> dict[str, Any]:
        per_text = {name: value for name, value in features.items() if isinstance(value, list)}
        batch = {name: [value[row] for row in rows] for name, value in per_text.items()}
        padded = self._model.tokenizer.pad(batch, return_tensors="pt")
        return {**features, **{name: move(tensor, self._model.device) for name, tensor in padded.items()}}

    @torch.inference_mode()
    def _forward(self, features: dict[str, Any], task: str) -> torch.Tensor:
        vectors = self._model(features, task=task)["sentence_embedding"].float()
        return torch.nn.functional.normalize(vectors, dim=1)


def move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; to CUDA from pinned memory, for which the caller doesn't wait."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def open_embedder(settings: Embed, model: Source, dtype: str, threads: int, gpus: float) -> Embedder:
    """Load the embedding model, fetched if need be, for an actor that reserves `gpus` GPUs."""
    with loading(model) as folder:
        return Embedder(
            folder,
            dtype=dtype,
            batch_size=settings.batch_size,
            max_length=settings.max_length,
            query_prefix=settings.query_prefix,
            document_prefix=settings.document_prefix,
            threads=threads,
            gpus=gpus,
        )
