from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ragjob.errors import EngineDied, SettingsError
from ragjob.models.embedder import Embedder, Vectors, move


def open_embedder(
    path: str | Path,
    *,
    dtype: str = "float32",
    max_length: int | None = None,
    query_prefix: str | None = None,
    document_prefix: str | None = None,
    threads: int = 2,
    batch_size: int = 16,
    gpus: float = 0,
) -> Embedder:
    return Embedder(
        str(path),
        dtype=dtype,
        batch_size=batch_size,
        max_length=max_length,
        query_prefix=query_prefix,
        document_prefix=document_prefix,
        threads=threads,
        gpus=gpus,
    )


def neighbours(vectors: Vectors, count: int) -> Vectors:
    """Whether text j is among the `count` closest to text i: float32 [len, len] of 0 and 1."""
    similarities = vectors @ vectors.T
    return (similarities >= np.sort(similarities, axis=1)[:, -count, None]).astype(np.float32)


def test_vectors_are_those_of_sentence_transformers(vectors: Vectors, minilm: str, paragraphs: list[str]) -> None:
    expected = SentenceTransformer(minilm).encode(paragraphs, normalize_embeddings=True)
    assert np.abs(vectors - expected).max() < 1e-5


def test_a_decoder_with_a_chat_template_embeds_as_in_sentence_transformers(qwen2: Path, paragraphs: list[str]) -> None:
    expected = SentenceTransformer(str(qwen2)).encode_query(paragraphs, normalize_embeddings=True)
    assert np.abs(open_embedder(qwen2).embed_queries(paragraphs) - expected).max() < 1e-5


def test_vectors_are_float32_of_length_one(embedder: Embedder, vectors: Vectors) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape == (50, embedder.dimension) == (50, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_vectors_come_in_the_order_of_their_texts(embedder: Embedder, vectors: Vectors, paragraphs: list[str]) -> None:
    backwards = embedder.embed_documents(paragraphs[::-1])
    np.testing.assert_allclose(backwards[::-1], vectors, atol=1e-5)


def test_equal_texts_have_equal_vectors(embedder: Embedder, paragraphs: list[str]) -> None:
    first, *others, last = embedder.embed_documents([paragraphs[1], *paragraphs[:9], paragraphs[1]])
    np.testing.assert_array_equal(first, others[1])
    np.testing.assert_array_equal(first, last)


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed_queries([]).shape == (0, 384)


def test_bfloat16_finds_the_ten_neighbours_that_float32_finds(
    vectors: Vectors, minilm: str, paragraphs: list[str]
) -> None:
    exact = neighbours(vectors, 10)
    rounded = neighbours(open_embedder(minilm, dtype="bfloat16").embed_documents(paragraphs), 10)
    assert (exact * rounded).sum() / exact.sum() > 0.95


def test_an_index_in_float16_is_asked_in_float32_on_a_processor(
    vectors: Vectors, minilm: str, paragraphs: list[str]
) -> None:
    np.testing.assert_array_equal(open_embedder(minilm, dtype="float16").embed_documents(paragraphs), vectors)


def test_prefixes_are_put_before_queries_and_documents(embedder: Embedder, minilm: str) -> None:
    prefixed = open_embedder(minilm, query_prefix="query: ", document_prefix="passage: ")
    expected = embedder.embed_documents(["query: tram", "passage: tram"])
    np.testing.assert_allclose(prefixed.embed_queries(["tram"])[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(prefixed.embed_documents(["tram"])[0], expected[1], atol=1e-5)


def test_without_prefixes_set_the_models_own_are_used(embedder: Embedder, minilm: str, tmp_path: Path) -> None:
    SentenceTransformer(minilm, prompts={"query": "query: "}).save(str(tmp_path))
    embeddings = open_embedder(tmp_path).embed_queries(["tram"])
    np.testing.assert_allclose(embeddings, embedder.embed_queries(["query: tram"]), atol=1e-5)


def test_texts_are_cut_at_max_length_tokens(minilm: str) -> None:
    short = open_embedder(minilm, max_length=10)
    vectors = short.embed_documents(["tram " * 8, "tram " * 9, "tram " * 7])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3


def test_max_length_is_the_models_own_by_default(embedder: Embedder) -> None:
    vectors = embedder.embed_documents(["tram " * 254, "tram " * 255, "tram " * 253])  # 256 with [CLS] and [SEP]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-5


def test_a_max_length_beyond_the_models_positions_is_refused(minilm: str) -> None:
    with pytest.raises(SettingsError, match=r"embed\.max_length: 513 is more than the model's 512 tokens; lower it$"):
        open_embedder(minilm, max_length=513)


def test_vectors_are_the_same_on_any_number_of_threads(minilm: str, vectors: Vectors, paragraphs: list[str]) -> None:
    np.testing.assert_array_equal(open_embedder(minilm, threads=1).embed_documents(paragraphs), vectors)


def test_threads_that_share_the_model_get_the_vectors_of_their_own_texts(
    embedder: Embedder, vectors: Vectors, paragraphs: list[str]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(embedder.embed_documents, [paragraphs[at : at + 10] for at in range(0, 50, 10)]))
    np.testing.assert_allclose(np.concatenate(batches), vectors, atol=1e-5)


def test_batches_on_their_way_to_a_gpu_are_pinned_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # No GPU here: `pin_memory` and `to` are watched instead.
    calls: list[object] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: calls.append("pinned") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *where, **options: calls.append((*where, options)) or tensor)
    move(torch.ones(1), torch.device("cuda"))
    move(torch.ones(1), torch.device("cpu"))
    assert calls == ["pinned", (torch.device("cuda"), {"non_blocking": True}), (torch.device("cpu"), {})]


def test_vectors_that_arent_finite_are_an_error(minilm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Embedder, "_forward", lambda *_: torch.full((1, 384), torch.nan))
    with pytest.raises(ValueError, match=r"set embed\.dtype to bfloat16 or float32"):
        open_embedder(minilm).embed_documents(["tram"])


def test_a_gpu_that_fails_ends_its_worker(minilm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access\nSearch for it")

    monkeypatch.setattr(Embedder, "_forward", fail)
    with pytest.raises(
        EngineDied, match=r"^the GPU failed: CUDA error: an illegal memory access; check it with nvidia-smi, "
    ):
        open_embedder(minilm).embed_documents(["tram"])
