import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from ragjob.errors import DataError, DependencyError
from ragjob.models import hub as hub_module
from ragjob.models import sizes
from ragjob.models.files import Source
from ragjob.models.hub import find_on_hub
from ragjob.models.tokenizer import open_tokenizer
from tests.models.fake_hub import NAME, FakeHub, serve

KEY = "embed.model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"weights" * 1000
FILES = {
    "README.md": b"Read me",
    "config.json": b'{"hidden_size": 8, "max_position_embeddings": 16}',
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": b"unused",
    "pytorch_model.bin": b"unused",
    "1_Pooling/config.json": b"{}",
}
USED = ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
FETCH = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).files.fetch())"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minilm: str) -> Iterator[FakeHub]:
    """A hub that has the model, and an empty cache."""
    tokenizer = (Path(minilm) / "tokenizer.json").read_bytes()
    with serve({**FILES, "tokenizer.json": tokenizer}, COMMIT) as hub:
        use_hub(hub.url, tmp_path / "cache", monkeypatch)
        yield hub


def use_hub(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def find(revision: str | None = None) -> Source:
    return find_on_hub(NAME, revision, KEY)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_model_is_its_commit_and_nothing_is_downloaded_to_find_it(hub: FakeHub, revision: str | None) -> None:
    model = find(revision)
    assert (model.revision, model.label) == (COMMIT[:12], f"{NAME}@{COMMIT[:12]}")
    assert len(hub.requests) == 1  # and the hub isn't told of the machine


def test_a_plan_downloads_small_files_alone(hub: FakeHub) -> None:
    model = find()
    assert sizes.weights_bytes(model) == len(WEIGHTS)
    assert (sizes.dimension(model), sizes.max_tokens(model)) == (8, 16)
    assert hub.downloads() == ["config.json"]


def test_a_tokenizer_is_read_without_the_weights(hub: FakeHub) -> None:
    assert open_tokenizer(find()).encode("tram").tokens == ["[CLS]", "tram", "[SEP]"]
    assert hub.downloads() == ["tokenizer.json"]


def test_files_of_other_formats_are_left_out(hub: FakeHub) -> None:
    folder = Path(find().files.fetch())
    assert sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*")) == USED
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.downloads() == USED


def test_bin_weights_are_downloaded_where_there_are_no_others(hub: FakeHub) -> None:
    del hub.files["model.safetensors"]
    assert "pytorch_model.bin" in find().files.sizes


def test_four_processes_of_a_node_download_a_model_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.delay_s = 0.05
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
    told = tmp_path / "model.pickle"
    told.write_bytes(pickle.dumps(find()))
    command = [sys.executable, "-c", FETCH, told]
    fetches = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    folders = [fetch.communicate(timeout=60)[0] for fetch in fetches]
    assert folders == [f"{tmp_path}/cache/models--org--model/snapshots/{COMMIT}\n"] * 4
    assert hub.downloads() == USED


def test_a_model_that_is_cached_whole_is_not_asked_for_again(hub: FakeHub) -> None:
    folder = find().files.fetch()
    model = find()
    hub.requests.clear()
    assert (model.files.fetch(), hub.requests) == (folder, [])


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_offline_a_cached_model_is_found_and_used(
    hub: FakeHub, revision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = find(revision)
    folder = online.files.fetch()
    go_offline(monkeypatch)
    offline = find(revision)
    assert (offline, offline.files.fetch(), sizes.dimension(offline)) == (online, folder, 8)


def test_a_cached_model_is_found_when_the_hub_is_gone(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = find()
    online.files.fetch()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find() == online


def test_a_cached_model_is_found_when_the_hub_doesnt_answer(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    online = find()
    online.files.fetch()
    monkeypatch.setattr(hub_module, "TIMEOUT_S", 0.1)
    hub.delay_s = 0.5
    assert find() == online


def test_offline_a_model_of_which_only_small_files_are_cached_isnt_there(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find(COMMIT)
    sizes.dimension(model)
    go_offline(monkeypatch)
    with pytest.raises(DependencyError, match=rf"^embed.model: {NAME} can't be fetched .* set embed.model to [^\n]*$"):
        find(COMMIT)
    with pytest.raises(DependencyError, match=rf"^embed.model: {NAME} can't be fetched .* set embed.model to [^\n]*$"):
        model.files.fetch()


def test_a_later_commit_is_another_model(hub: FakeHub) -> None:
    before = find()
    before.files.fetch()
    hub.commit, hub.files["model.safetensors"] = COMMIT[::-1], b"other"
    after = find()
    assert after.revision != before.revision
    assert (Path(after.files.fetch()) / "model.safetensors").read_bytes() == b"other"


@pytest.mark.parametrize(
    ("lost", "message"),
    [("config.json", "isn't a model, since it has no config.json"), ("model.safetensors", "has no weights")],
)
def test_a_repository_that_is_no_model_is_a_data_error(hub: FakeHub, lost: str, message: str) -> None:
    hub.files = {"config.json": b"{}", "model.safetensors": b""}
    del hub.files[lost]
    with pytest.raises(DataError, match=rf"^embed.model: {NAME} {message}[^\n]*$"):
        find()


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("org/other", None, "isn't on the model hub or is private: check the name"),
        (NAME, "branch", "doesn't have the requested revision: name one of its branches"),
        ("a b", None, "is neither a hub id nor a folder"),
    ],
)
def test_what_the_hub_hasnt_got_is_a_dependency_error(name: str, revision: str | None, message: str) -> None:
    with pytest.raises(DependencyError, match=rf"^embed.model: {name} {message}[^\n]*$"):
        find_on_hub(name, revision, KEY)


def refusal(kind: type[errors.HfHubHTTPError]) -> errors.HfHubHTTPError:
    return kind("Request failed.\n\nSecond line", response=Mock(headers={}))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(errors.GatedRepoError), "is gated: accept its terms"),
        (refusal(errors.HfHubHTTPError), r"can't be fetched from the model hub \(Request failed\.\)"),
        (errors.HTTPError("timed out"), r"can't be fetched from the model hub \(timed out\)"),
        (ValueError("Expecting value"), r"can't be fetched .*Expecting value"),
        (OSError(28, "No space left on device"), r"can't be fetched .*No space left on device"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_a_refusal_of_the_hub_is_one_line_with_the_remedy(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", Mock(side_effect=error))
    with pytest.raises(DependencyError, match=rf"^embed.model: org/other {message}[^\n]*$"):
        find_on_hub("org/other", None, KEY)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_a_mirror_on_loopback_is_reached_past_proxies(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "socks5://127.0.0.1:9")
    assert (Path(find().files.fetch()) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_socks_proxy_without_its_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub("https://hub.example.com", tmp_path, monkeypatch)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(DependencyError, match=f"^{KEY}: {NAME} can't be looked up: .* socksio isn't installed"):
        find()


@pytest.mark.parametrize("path", ["../../evil.py", "/evil.py", "a//evil.py", "a\\evil.py"])
def test_a_file_that_leads_out_of_the_models_folder_is_a_data_error(hub: FakeHub, path: str) -> None:
    hub.files[path] = b"import os"
    with pytest.raises(DataError, match=rf"^embed.model: {NAME} has a file named '[^\n]*; remove that file$"):
        find()
    assert hub.downloads() == []
