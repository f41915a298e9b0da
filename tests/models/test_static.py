"""Static embedding models: a table of vectors and a tokenizer, and no config of transformers'."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ragjob.errors import DataError
from ragjob.models import sizes
from ragjob.models.embedder import Embedder, open_embedder
from ragjob.models.settings import Embed
from ragjob.models.source import resolve
from ragjob.models.tokenizer import count_tokens, open_tokenizer
from tests.engines.shapes import engine_of, given
from tests.models.conftest import STATIC_WIDTH

TEXTS = ["The depot holds forty cars.", "A ticket costs two pence.", "", "The depot holds forty cars."]


def opened(folder: Path, max_length: int | None = None) -> Embedder:
    settings = Embed(model=str(folder), max_length=max_length)
    return open_embedder(settings, resolve(str(folder), None, "embed.model", "cache"), "float32", 2, 0)


def test_a_plan_knows_its_sizes_and_its_tokens(static_model: Path, minilm: str) -> None:
    source = resolve(str(static_model), None, "embed.model", "cache")
    tokenizer = open_tokenizer(source)
    table_bytes = tokenizer.get_vocab_size() * STATIC_WIDTH * 4
    assert table_bytes < sizes.weights_bytes(source) < table_bytes + 1000
    assert (sizes.dimension(source), sizes.max_tokens(source)) == (STATIC_WIDTH, None)
    assert count_tokens(tokenizer, TEXTS[:1]) == [6]


def test_vectors_are_those_of_sentence_transformers(static_model: Path) -> None:
    model = SentenceTransformer(str(static_model), device="cpu")
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(opened(static_model).embed_documents(TEXTS), expected, atol=1e-6)


def test_no_more_than_max_length_tokens_of_a_text_are_read(static_model: Path) -> None:
    embedder = opened(static_model, max_length=8)
    same, longer = embedder.embed_documents(["tram " * 7 + "car", "tram " * 7 + "car ticket depot"])
    assert np.array_equal(same, longer)


def test_it_answers_nothing(static_model: Path) -> None:
    (static_model / "config.json").unlink(missing_ok=True)
    model = resolve(str(static_model), None, "generate.model", "cache")
    with pytest.raises(DataError, match=r"^generate.model: .* isn't a language model, since it has no config.json"):
        engine_of(given(generate={"engine": "transformers"}), model).check_prompt()
