"""Turn texts into unit vectors with any sentence-transformers model."""

from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from ragjob.errors import SettingsError
from ragjob.models.batches import UNPADDED, Batches, Features, load_options, move
from ragjob.models.device import ending_with_gpu, silence_libraries
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.models.source import loading

Vectors = npt.NDArray[np.float32]


class Embedder:
    """The model in the folder `path`, on CUDA when `gpus` of one are reserved, else on `threads` threads.

    `dtype` is `float32`, `bfloat16` or `float16`, which is for CUDA: a CPU computes in float32 instead.
    `batch_size` counts texts, `max_length` tokens. A prefix of `None`, or a `max_length` of `None`, means the
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
        self._model = SentenceTransformer(path, **load_options(dtype, gpus)).eval()
        self._batches = Batches(self._model, batch_size, threads)
        self._tokenizing = Lock()  # threads may share the model
        self._prefixes = {"query": query_prefix, "document": document_prefix}
        if max_length is not None:
            self._limit_length(max_length)

    def _limit_length(self, max_length: int) -> None:
        if isinstance(self._model[0], StaticEmbedding):
            self._model[0].tokenizer.enable_truncation(max_length)
            return
        positions = getattr(self._model[0].config, "max_position_embeddings", max_length)
        if max_length > positions:
            raise SettingsError(f"embed.max_length: {max_length} is more than the model's {positions} tokens; lower it")
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
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        with self._tokenizing:
            features = self._tokenize(texts, task)
        if isinstance(self._model[0], StaticEmbedding):  # whose texts stand one after the other, without padding
            moved = {name: move(tensor, self._model.device) for name, tensor in features.items()}
            return self._forward(moved, task).cpu().numpy()
        vectors = self._batches.compute(features, lambda batch: self._forward(batch, task))
        if not np.isfinite(vectors).all():
            raise ValueError("vectors aren't finite: set embed.dtype to bfloat16 or float32")
        return vectors

    def _tokenize(self, texts: list[str], task: str) -> Features:
        prefix = self._prefixes[task]
        if prefix is None:
            prefix = self._model.prompts.get(task, "")
        features: Features = self._model.preprocess(texts, prompt=prefix, task=task, processing_kwargs=UNPADDED)
        return features

    @torch.inference_mode()
    def _forward(self, features: Features, task: str) -> torch.Tensor:
        vectors = self._model(features, task=task)["sentence_embedding"].float()
        return torch.nn.functional.normalize(vectors, dim=1)


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
