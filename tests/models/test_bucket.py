import os
import pickle
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ragjob import storage
from ragjob.config import S3
from ragjob.errors import DataError, DependencyError
from ragjob.models import bucket as bucket_module
from ragjob.models import sizes
from ragjob.models.bucket import find_in_bucket
from ragjob.models.files import Source
from ragjob.models.tokenizer import open_tokenizer
from tests.conftest import files_below
from tests.faults import Answer, Connection, Fault, Forward, Harm, Proxy, Request, proxy, stall
from tests.services import Bucket

KEY = "embed.model"
WEIGHTS = secrets.token_bytes(3_000_000)
FILES = {
    "README.md": b"Read me",
    "config.json": b'{"hidden_size": 8, "max_position_embeddings": 16}',
    "model.safetensors": WEIGHTS,
    "onnx/model.onnx": b"unused",
    "1_Pooling/config.json": b"{}",
}
USED = ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
# What a worker does: it is told how to reach S3, and given the model.
FETCH = """
import pickle, sys
from ragjob import storage
s3, model = pickle.load(open(sys.argv[1], "rb"))
storage.configure(s3)
print(model.files.fetch())
"""


@pytest.fixture
def model(s3: Bucket, minilm: str) -> str:
    """Uri of a model in a bucket."""
    for path, content in FILES.items():
        s3.write(f"models/tiny.v2/{path}", content)
    s3.write("models/tiny.v2/tokenizer.json", (Path(minilm) / "tokenizer.json").read_bytes())
    return f"{s3.uri}/models/tiny.v2"


@pytest.fixture
def way(model: str, s3: Bucket) -> Iterator[Proxy]:
    """The way to the bucket that `model` is in."""
    with proxy(s3.server.endpoint) as way:
        storage.configure(S3(endpoint_url=way.url, region=s3.server.region, timeout_s=20))
        yield way


def find(model: str, cache: Path) -> Source:
    return find_in_bucket(model, KEY, str(cache))


def downloads(way: Proxy) -> list[str]:
    """Paths of the objects that were asked for, in order, each as often as it was."""
    return sorted(request.target.partition("/tiny.v2/")[2] for request in way.seen if request.kind == "GET object")


def test_a_model_is_found_by_its_listing_alone(way: Proxy, model: str, tmp_path: Path) -> None:
    source = find(model, tmp_path)
    assert source.label == f"{model}@{source.revision}"
    assert dict(way.counts()) == {"GET list": 1}


def test_the_revision_follows_from_the_content_and_not_from_the_address(s3: Bucket, model: str, tmp_path: Path) -> None:
    for path in USED:
        s3.write(f"copy/{path}", s3.read(f"models/tiny.v2/{path}"))
    revision = find(model, tmp_path).revision
    assert find(f"{model}/", tmp_path).revision == find(f"{s3.uri}/copy", tmp_path).revision == revision
    s3.write("copy/model.safetensors", WEIGHTS[::-1])
    assert find(f"{s3.uri}/copy", tmp_path).revision != revision


def test_a_plan_reads_small_files_alone(way: Proxy, model: str, tmp_path: Path) -> None:
    source = find(model, tmp_path)
    assert sizes.weights_bytes(source) == len(WEIGHTS)
    assert (sizes.dimension(source), sizes.max_tokens(source)) == (8, 16)
    assert set(downloads(way)) == {"config.json"}


def test_a_tokenizer_is_read_without_the_weights(way: Proxy, model: str, tmp_path: Path) -> None:
    assert open_tokenizer(find(model, tmp_path)).encode("tram").tokens == ["[CLS]", "tram", "[SEP]"]
    assert set(downloads(way)) == {"tokenizer.json"}


def test_the_files_that_loading_takes_are_fetched_into_the_cache(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = find(model, Path("~/models"))
    folder = Path(source.files.fetch())
    assert folder == tmp_path / "models" / f"tiny.v2-{source.revision}"
    assert files_below(folder) == USED
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_relative_cache_is_the_same_folder_wherever_a_worker_runs(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = find(model, Path("cache"))
    monkeypatch.chdir("/")
    assert Path(source.files.fetch()) == tmp_path / "cache" / f"tiny.v2-{source.revision}"


def test_a_model_that_is_cached_is_not_asked_for_again(way: Proxy, model: str, tmp_path: Path) -> None:
    source = find(model, tmp_path)
    source.files.fetch()
    way.seen.clear()
    source.files.fetch()
    open_tokenizer(source)
    assert way.seen == []


def start_fetch(way: Proxy, model: Source, told: Path) -> "subprocess.Popen[str]":
    """Fetch in a process of its own, which is told by the file `told` what."""
    told.write_bytes(pickle.dumps((S3(endpoint_url=way.url, region="us-east-1"), model)))
    return subprocess.Popen([sys.executable, "-c", FETCH, told], stdout=subprocess.PIPE, text=True)


def test_four_processes_of_a_node_fetch_a_model_once(way: Proxy, model: str, tmp_path: Path) -> None:
    source = find(model, tmp_path)
    fetches = [start_fetch(way, source, tmp_path / f"{number}.pickle") for number in range(4)]
    folders = [fetch.communicate(timeout=60)[0] for fetch in fetches]
    assert folders == [f"{tmp_path}/tiny.v2-{source.revision}\n"] * 4
    assert sorted(set(downloads(way))) == USED
    assert downloads(way).count("config.json") == 1


def test_a_download_that_is_killed_never_counts(way: Proxy, model: str, tmp_path: Path) -> None:
    way.faults.append(Fault(stall, on=r"GET .*model\.safetensors", times=1))
    source = find(model, tmp_path)
    killed = start_fetch(way, source, tmp_path / "told.pickle")
    wait_for(tmp_path / f"tiny.v2-{source.revision}.partial" / "config.json")
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=30)
    assert not (tmp_path / f"tiny.v2-{source.revision}").exists()
    assert files_below(Path(source.files.fetch())) == USED


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"waited in vain for {file}"
        time.sleep(0.02)


@pytest.mark.parametrize("content", [b"shorter", WEIGHTS[::-1]], ids=["shorter", "as long"])
def test_a_model_that_changes_before_it_is_fetched_is_a_data_error(
    s3: Bucket, model: str, tmp_path: Path, content: bytes
) -> None:
    source = find(model, tmp_path)
    s3.write("models/tiny.v2/model.safetensors", content)
    with pytest.raises(DataError, match=rf"^embed.model: {model}[^ ]*: has changed since the job began; start the j"):
        source.files.fetch()
    assert not Path(tmp_path, f"tiny.v2-{source.revision}").exists()


def test_a_file_that_changes_before_it_is_read_is_a_data_error(s3: Bucket, model: str, tmp_path: Path) -> None:
    source = find(model, tmp_path)
    s3.write("models/tiny.v2/config.json", b"{}")
    with pytest.raises(DataError, match=rf"^embed.model: {model}/config.json: has changed since the job began"):
        sizes.dimension(source)


def garble(request: Request, forward: Forward, connection: Connection) -> Answer:
    """Give other bytes, as many."""
    answer = forward(request)
    return replace(answer, body=secrets.token_bytes(len(answer.body)))


def test_a_file_that_comes_damaged_once_is_fetched_again(way: Proxy, model: str, tmp_path: Path) -> None:
    way.faults.append(Fault(garble, on=r"GET .*model\.safetensors", times=1))
    folder = find(model, tmp_path).files.fetch()
    assert Path(folder, "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_always_comes_damaged_is_a_dependency_error(way: Proxy, model: str, tmp_path: Path) -> None:
    way.faults.append(Fault(garble, on=r"GET .*model\.safetensors"))
    with pytest.raises(DependencyError, match=rf"^embed.model: {model}/model.safetensors: arrives damaged, [^\n]*$"):
        find(model, tmp_path).files.fetch()


def test_tags_that_arent_digests_as_where_kms_encrypts_are_no_damage(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tuple(replace(entry, tag="0" * 32) for entry in storage.list_files(model))
    monkeypatch.setattr(bucket_module.storage, "list_files", lambda _: listed)
    assert files_below(Path(find(model, tmp_path).files.fetch())) == USED


@pytest.mark.parametrize(
    ("lost", "message"),
    [("config.json", "isn't a model, since it has no config.json"), ("model.safetensors", "has no weight")],
)
def test_a_prefix_that_holds_no_model_is_a_data_error(
    s3: Bucket, model: str, tmp_path: Path, lost: str, message: str
) -> None:
    s3.server.client().delete_object(Bucket=s3.name, Key=f"models/tiny.v2/{lost}")
    with pytest.raises(DataError, match=rf"^embed.model: {model} {message}[^\n]*$"):
        find(model, tmp_path)


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_isnt_there_is_a_dependency_error() -> None:
    with pytest.raises(DependencyError, match=r"^embed.model: s3://no-such-bucket/model: [^\n]*$"):
        find_in_bucket("s3://no-such-bucket/model", KEY, "cache")


def test_a_cache_without_space_is_named_with_its_setting(model: str, small_disk: Path) -> None:
    with pytest.raises(
        DependencyError, match=rf"^models.cache: {small_disk}: No space left [^\n]*; name a writable folder"
    ):
        find(model, small_disk).files.fetch()


def renaming(name: str, path: str) -> Harm:
    """List the file `name` as `path`: the servers here tidy paths up, others keep any."""

    def rename(request: Request, forward: Forward, connection: Connection) -> Answer:
        answer = forward(request)
        return replace(answer, body=answer.body.replace(name.encode(), path.encode()))

    return rename


@pytest.mark.parametrize(
    "path", ["{outside}/evil.py", "/config.json", "1_Pooling//config.json", "../b.json", "a\\b.json"]
)
def test_a_key_that_leads_out_of_the_models_folder_is_a_data_error_before_anything_is_written(
    s3: Bucket, way: Proxy, model: str, tmp_path: Path, path: str
) -> None:
    path = path.format(outside=tmp_path)
    name = "x" * len(path)
    s3.write(f"models/tiny.v2/{name}", b"import os")
    way.faults.append(Fault(renaming(name, path), on="GET .*list-type"))
    with pytest.raises(DataError, match=rf"^embed.model: {model} has a file named '[^\n]*; remove that file$"):
        find(model, tmp_path / "cache").files.fetch()
    assert files_below(tmp_path) == []


def test_a_folder_marker_of_a_console_is_no_file_of_the_model(s3: Bucket, model: str, tmp_path: Path) -> None:
    s3.write("models/tiny.v2/", b"")
    s3.write("models/tiny.v2/1_Pooling/", b"")
    assert files_below(Path(find(model, tmp_path).files.fetch())) == USED


@pytest.mark.parametrize("ending", [".lock", ".partial"])
def test_a_link_beside_the_cached_model_is_not_written_through(model: str, tmp_path: Path, ending: str) -> None:
    source = find(model, tmp_path / "cache")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "kept").write_text("kept")
    target = {".lock": theirs / "kept", ".partial": theirs}[ending]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"tiny.v2-{source.revision}{ending}").symlink_to(target)
    with pytest.raises(DependencyError, match=r"^models.cache: [^\n]*; name a writable folder"):
        source.files.fetch()
    assert (files_below(theirs), (theirs / "kept").read_text()) == (["kept"], "kept")
