import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

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


STATIC_WIDTH = 24


@pytest.fixture(params=["saved", "in a folder", "model2vec"])
def static_model(request: pytest.FixtureRequest, tmp_path: Path, minilm: str) -> Path:
    """A static embedding model as sentence-transformers saves it, as it did before, or as Model2Vec does."""
    folder, tokenizer = tmp_path / "static", Tokenizer.from_file(f"{minilm}/tokenizer.json")
    table = torch.randn(tokenizer.get_vocab_size(), STATIC_WIDTH, generator=torch.Generator().manual_seed(0))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)]).save(str(folder))
    modules = json.loads((folder / "modules.json").read_text())
    if request.param == "in a folder":
        modules[0] |= {"path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}
        (folder / "0_StaticEmbedding").mkdir()
        for name in ("model.safetensors", "tokenizer.json"):
            (folder / name).rename(folder / "0_StaticEmbedding" / name)
    elif request.param == "model2vec":
        modules[0] |= {"path": ".", "type": "sentence_transformers.models.StaticEmbedding"}
        save_file({"embeddings": table}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "hidden_dim": STATIC_WIDTH}))
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder
