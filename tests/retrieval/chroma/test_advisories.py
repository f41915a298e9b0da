"""What Chroma's open advisories need isn't there: neither its server nor our client builds what a collection names."""

import json
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ragjob.retrieval.chroma import loading, search
from ragjob.retrieval.chroma.collection import HNSW
from ragjob.retrieval.chroma.expected import Expected, Target
from tests.retrieval.chroma.test_collections import DIMENSION, INDEX, PASSAGES, VECTORS, ignore

pytestmark = pytest.mark.services

COLLECTIONS = "api/v2/tenants/default_tenant/databases/default_database/collections"


@dataclass(frozen=True)
class HostileModel:
    """A model whose own code, once it runs, leaves `mark` behind."""

    folder: Path
    mark: Path

    def config(self) -> dict[str, object]:
        """The model as the embedding function of a collection, which allows it to run its code."""
        model = {"model_name": str(self.folder), "device": "cpu", "normalize_embeddings": False}
        kwargs = {"trust_remote_code": True}
        return {"type": "known", "name": "sentence_transformer", "config": model | {"kwargs": kwargs}}


@pytest.fixture
def hostile(tmp_path: Path) -> HostileModel:
    model = HostileModel(tmp_path / "model", tmp_path / "mark")
    model.folder.mkdir()
    about = {"model_type": "hostile", "auto_map": {"AutoConfig": "hostile.Config"}}
    (model.folder / "config.json").write_text(json.dumps(about))
    (model.folder / "hostile.py").write_text(f"open({str(model.mark)!r}, 'w').close()\n")
    return model


@pytest.fixture
def target(shared_chroma: str, hostile: HostileModel) -> Target:
    return Target(shared_chroma, 20)


@pytest.fixture
def forged(target: Target, hostile: HostileModel, request: pytest.FixtureRequest) -> Expected:
    """An index version whose collection somebody else has made before, with a hostile embedding function."""
    expected = Expected(f"{request.node.name}-1", "1", "fingerprint", len(VECTORS), DIMENSION, INDEX)
    about = {"index": INDEX, "version": "1", "fingerprint": "fingerprint", "count": len(VECTORS), "state": "loading"}
    body = {"name": expected.name, "metadata": about}
    configuration = {"hnsw": {"space": HNSW["space"]}, "embedding_function": hostile.config()}
    made = httpx.post(f"{target.url}/{COLLECTIONS}", json=body | {"configuration": configuration})
    assert "trust_remote_code" in made.raise_for_status().text
    return expected


def test_a_collections_embedding_function_is_never_built(
    target: Target, forged: Expected, hostile: HostileModel
) -> None:
    loading.load(target, forged, PASSAGES, ignore)
    [near] = search.open_collection(target, forged).nearest(VECTORS[:1], 3, 1)
    assert len(near) == 3
    assert not hostile.mark.exists()
