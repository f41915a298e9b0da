"""Score how well passages answer questions with any cross-encoder of sentence-transformers."""

from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import CrossEncoder

from ragjob.errors import SettingsError
from ragjob.models.batches import UNPADDED, Batches, Features, load_options
from ragjob.models.device import choose_dtype, ending_with_gpu, silence_libraries
from ragjob.models.files import Source
from ragjob.models.settings import Rerank
from ragjob.models.source import loading

Scores = npt.NDArray[np.float32]


class Reranker:
    """The model in the folder `path`, on CUDA when `gpus` of one are reserved, else on `threads` threads.

    `dtype` is as for an `Embedder`. Raises `SettingsError` if the model doesn't give exactly one score.
    """

    def __init__(self, path: str, *, dtype: str, batch_size: int, threads: int, gpus: float) -> None:
        silence_libraries()
        self._model = CrossEncoder(path, **load_options(dtype, gpus)).eval()
        if self._model.num_labels != 1:
            raise SettingsError(
                f"rerank.model: gives {self._model.num_labels} scores per passage; use a model that gives one"
            )
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "")
        self._batches = Batches(self._model, batch_size, threads)
        self._tokenizing = Lock()  # threads may share the model

    @ending_with_gpu()
    def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """The score of each question and passage, float32 [len(pairs)]; higher is better.

        Raises `ValueError` for scores that aren't finite.
        """
        if not pairs:
            return np.empty(0, np.float32)
        with self._tokenizing:
            features = self._model.preprocess(list(map(list, pairs)), prompt=self._prompt, processing_kwargs=UNPADDED)
        scores = self._batches.compute(features, self._forward)
        if not np.isfinite(scores).all():
            raise ValueError("scores aren't finite: set rerank.dtype to bfloat16 or float32")
        return scores

    @torch.inference_mode()
    def _forward(self, features: Features) -> torch.Tensor:
        scores: torch.Tensor = self._model.activation_fn(self._model(features)["scores"].float())
        return scores.reshape(-1)


def open_reranker(settings: Rerank, model: Source, threads: int) -> Reranker:
    """Load the cross-encoder, fetched if need be, for an actor of its pool."""
    gpus = settings.pool.num_gpus
    dtype = choose_dtype(settings.dtype, gpus)
    with loading(model) as folder:
        return Reranker(folder, dtype=dtype, batch_size=settings.batch_size, threads=threads, gpus=gpus)
