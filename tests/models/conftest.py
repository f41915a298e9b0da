from pathlib import Path

import pytest

from ragjob.models.embedder import Embedder, Vectors
from tests.fakes import CORPUS, tiny_qwen2
from tests.storage.conftest import s3

__all__ = ["s3"]  # a fixture


@pytest.fixture(scope="session")
def embedder(minilm: str) -> Embedder:
    return Embedder(
        minilm,
        dtype="float32",
        batch_size=16,
        max_length=None,
        query_prefix=None,
        document_prefix=None,
        threads=2,
        gpus=0,
    )


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def paragraphs() -> list[str]:
    """Fifty passages of the sample corpus, headings included, of 2 to about 100 words."""
    texts = [file.read_text() for file in sorted(CORPUS.glob("*.md"))]
    return [paragraph for text in texts for paragraph in text.split("\n\n")][:50]


@pytest.fixture(scope="session")
def vectors(embedder: Embedder, paragraphs: list[str]) -> Vectors:
    return embedder.embed_documents(paragraphs)
