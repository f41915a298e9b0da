"""Real servers for the tests: Ray, Chroma, vLLM's, and an S3 server with buckets on it, the first that there is of

RAGJOB_TEST_S3_ENDPOINT   address of one that runs, with its keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
versitygw                 on PATH
RAGJOB_TEST_S3_LOCAL      a script that starts one with ACCESS_KEY and SECRET_KEY, called with a folder and a port;
                          ../shared/cluster/s3-local by default
moto                      from the development packages: knows neither rights nor regions
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from ragjob.models.capacity import Resources
from ragjob.retrieval.chroma.server import LocalChroma
from ragjob.runtime.cluster import running

READY_S = 30.0
VLLM_READY_S = 240.0  # about a minute on two free cores
VLLM_ARGUMENTS = [
    *("--served-model-name", "tiny", "--dtype", "float32", "--kv-cache-memory-bytes", str(1 << 28)),
    *("--enforce-eager", "--enable-prompt-tokens-details", "--disable-log-stats"),
]
VLLM_VARIABLES = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
# The keys are long enough to be looked for in whatever a job writes.
ACCESS_KEY, SECRET_KEY = "ragaccess", "ragsecret123"
HEAD = """
import sys, ray
ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""
RAY_VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_num_workers_soft_limit": "64"}
ROOT = Path(__file__).parents[1]
BESIDE = ROOT.parent / "shared" / "cluster" / "s3-local"


@dataclass(frozen=True)
class S3Server:
    """Where an S3 server is, what it is, and the keys for it."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """What the standard AWS chain finds, in this process or a child; nothing of the user's own."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def settings(self) -> dict[str, str]:
        return {"s3.endpoint_url": self.endpoint, "s3.region": self.region}

    def client(self, config: Config | None = None) -> Any:
        """A client of the tests' own, so that they don't see storage through the eyes of what they test."""
        keys = {"aws_access_key_id": self.access_key, "aws_secret_access_key": self.secret_key}
        return boto3.client("s3", endpoint_url=self.endpoint, region_name=self.region, config=config, **keys)


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket on a server."""

    name: str
    server: S3Server

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of all objects that begin with `prefix`, in order."""
        pages = self.server.client().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def uploads(self) -> list[str]:
        """Keys of the multipart uploads that were neither completed nor aborted."""
        answer = self.server.client().list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    def read(self, key: str) -> bytes:
        body: bytes = self.server.client().get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def write(self, key: str, content: bytes) -> str:
        """Put an object; its uri."""
        self.server.client().put_object(Bucket=self.name, Key=key, Body=content)
        return f"{self.uri}/{key}"

    def fill(self, prefix: str, folder: Path) -> None:
        """Put all files below a folder, below a prefix."""
        for file in [file for file in folder.rglob("*") if file.is_file()]:
            self.write(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def s3_choice() -> str:
    """Which S3 server the tests use."""
    if endpoint := os.environ.get("RAGJOB_TEST_S3_ENDPOINT"):
        return f"the one at {endpoint}"
    for name, installed in (("versitygw", _versitygw()), ("moto", find_spec("moto"))):
        if installed:
            return name
    return "none: put versitygw on PATH, or install moto[s3], flask and flask-cors"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server for the whole session."""
    choice = s3_choice()
    if choice.startswith("none"):
        pytest.skip(f"S3 server: {choice}")
    if endpoint := os.environ.get("RAGJOB_TEST_S3_ENDPOINT"):
        yield S3Server(choice, endpoint, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        return
    port = free_port()
    folder = tmp_path_factory.mktemp("s3")
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    if choice == "versitygw":
        command = _command(folder, port)
    with serving(command, folder.with_suffix(".log"), f"http://127.0.0.1:{port}") as endpoint:
        yield S3Server(choice, endpoint, ACCESS_KEY, SECRET_KEY)


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A fresh bucket; this process and its children have the keys to it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    fresh_bucket = Bucket(f"test-{uuid4().hex}", s3_server)
    s3_server.client().create_bucket(Bucket=fresh_bucket.name)
    return fresh_bucket


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[str]:
    """The address of a Ray for all tests here that don't kill it: 2 CPUs, and a GPU that it only counts."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    variables = RAY_VARIABLES | {"PYTHONPATH": str(ROOT)}  # its workers can import stages and stand-ins from the tests
    with subprocess.Popen([sys.executable, "-c", HEAD], text=True, env=os.environ | variables, **pipes) as head:
        assert head.stdout
        address = head.stdout.readline().strip()
        assert address, "Ray hasn't started"
        yield address


@pytest.fixture
def joined_ray(shared_ray: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This test's jobs join the shared Ray."""
    monkeypatch.setenv("RAY_ADDRESS", shared_ray)


@pytest.fixture(scope="module")
def ray_here(shared_ray: str) -> Iterator[None]:
    """This process has joined the shared Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", shared_ray)
        with running(Resources.equal(2, 1)):
            yield


@pytest.fixture(scope="session")
def shared_chroma() -> Iterator[str]:
    """The address of a Chroma server for all tests here that don't kill it."""
    with LocalChroma(None) as server:
        yield server.url()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _versitygw() -> str | None:
    script = os.environ.get("RAGJOB_TEST_S3_LOCAL") or str(BESIDE)
    return shutil.which("versitygw") or shutil.which(script)


def _command(folder: Path, port: int) -> list[str]:
    server = _versitygw()
    assert server
    if Path(server).name != "versitygw":
        return [server, str(folder), str(port)]
    return [server, "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{port}", "posix", str(folder)]


class VLLMServer:
    """vLLM's own OpenAI-compatible server with the model in a folder, by the name `tiny`.

    It can be killed and started again on its port. `log` is a file for what it says.
    """

    def __init__(self, model: Path, log: Path) -> None:
        self._port = free_port()
        self._model = model
        self._log = log
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        at = ["--host", "127.0.0.1", "--port", str(self._port), "--model", str(self._model)]
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *at, *VLLM_ARGUMENTS]
        self._process = _start(command, self._log, f"{self.url}/health", VLLM_READY_S, **VLLM_VARIABLES)

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        _kill(self._process)

    def stop(self) -> None:
        """End it in good order, so that it leaves no shared memory behind."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()


@contextmanager
def serving(command: list[str], log: Path, endpoint: str) -> Iterator[str]:
    """A server for the time of the block, which answers at `endpoint`."""
    process = _start(command, log, endpoint, READY_S)
    try:
        yield endpoint
    finally:
        _kill(process)


def _start(command: list[str], log: Path, endpoint: str, ready_s: float, **variables: str) -> "subprocess.Popen[bytes]":
    """Start a server as the leader of a process group, and wait until it answers."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, env=os.environ | variables)
    deadline = time.monotonic() + ready_s
    while not _answers(endpoint):
        if process.poll() is not None or time.monotonic() > deadline:
            _kill(process)
            raise AssertionError(f"{command[0]} ended, or isn't ready:\n{log.read_text()}")
        time.sleep(0.05)
    return process


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True
