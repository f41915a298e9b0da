"""What the tests on a cluster share: the image, an S3 server, namespaces that enforce the restricted level.

KUBECONFIG          names the cluster; without it these tests are skipped
RAGJOB_E2E_IMAGE    the image, localhost/ragjob:0.1.0-cpu by default
RAGJOB_E2E_LOAD     a command that puts it into the cluster, as `kind load docker-image`; the image's name is added
"""

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ragjob.cli.sample import CORPUS, PROMPTS
from tests.e2e.cluster import ROOT, Namespace, wait_until
from tests.services import Bucket, S3Server, free_port

IMAGE = os.environ.get("RAGJOB_E2E_IMAGE", "localhost/ragjob:0.1.0-cpu")
KEYS = {"AWS_ACCESS_KEY_ID": "ragjob", "AWS_SECRET_ACCESS_KEY": "for-trying-out"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in ("kubectl", "helm") if shutil.which(name) is None]
    reason = f"no {missing[0]} on PATH" if missing else "KUBECONFIG isn't set"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(900))
            item.add_marker(pytest.mark.skipif(bool(missing) or "KUBECONFIG" not in os.environ, reason=reason))


@pytest.fixture(scope="session")
def image() -> str:
    """The image's name, once the cluster has it."""
    if load := os.environ.get("RAGJOB_E2E_LOAD"):
        subprocess.run([*shlex.split(load), IMAGE], check=True, capture_output=True)
    return IMAGE


@pytest.fixture(scope="session")
def s3(image: str) -> Iterator[S3Server]:
    """The S3 server of k8s/kind in a namespace of its own, reached through a forwarded port."""
    with restricted() as where:
        manifest = (ROOT / "k8s/kind/s3.yaml").read_text("utf-8").replace("localhost/ragjob:0.1.0-cpu", image)
        where.run("kubectl", "apply", "-f", "-", given=manifest)
        where.run("kubectl", "rollout", "status", "deployment/s3", "--timeout=120s")
        with forwarded(where, "service/s3", 7070) as port:
            yield InCluster(where.name, f"http://127.0.0.1:{port}", *KEYS.values())


class InCluster(S3Server):
    """An S3 server named after its namespace."""

    @property
    def address(self) -> str:
        """Where pods reach it."""
        return f"http://s3.{self.name}.svc:7070"


@dataclass(frozen=True)
class Place:
    """A namespace with the keys for S3, a bucket with the sample's corpus and prompts, and values for a job on them."""

    namespace: Namespace
    bucket: Bucket
    values: dict[str, Any]


Places = Callable[[], AbstractContextManager[Place]]


@pytest.fixture(scope="session")
def places(s3: InCluster, image: str) -> Places:
    """Make a place for the time of a block."""
    return partial(make_place, s3, image)


@pytest.fixture
def place(places: Places) -> Iterator[Place]:
    with places() as made:
        yield made


@pytest.fixture
def namespace(place: Place) -> Namespace:
    return place.namespace


@pytest.fixture
def bucket(place: Place) -> Bucket:
    return place.bucket


@pytest.fixture
def values(place: Place) -> dict[str, Any]:
    return place.values


@contextmanager
def make_place(s3: InCluster, image: str) -> Iterator[Place]:
    with restricted() as namespace:
        bucket = Bucket(f"test-{uuid4().hex[:12]}", s3)
        s3.client().create_bucket(Bucket=bucket.name)
        bucket.fill("corpus", CORPUS)
        bucket.write("prompts.jsonl", PROMPTS.read_bytes())
        secret = ["kubectl", "create", "secret", "generic", "s3-credentials"]
        namespace.run(*secret, *(f"--from-literal={name}={value}" for name, value in KEYS.items()))
        yield Place(namespace, bucket, small_values(bucket, s3, image))


def small_values(bucket: Bucket, s3: InCluster, image: str) -> dict[str, Any]:
    """Values for this cluster, small enough for 2 CPUs."""
    repository, tag = image.rsplit(":", 1)
    small = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "3Gi"}}
    return {
        "config": {
            "corpus": {"uri": f"{bucket.uri}/corpus/"},
            "prompts": {"uri": f"{bucket.uri}/prompts.jsonl"},
            "index": {"uri": f"{bucket.uri}/index"},
            "output": {"uri": f"{bucket.uri}/answers"},
            "embed": {"dtype": "float32"},
            "s3": {"endpoint_url": s3.address, "region": s3.region},
        },
        "image": {"repository": repository, "tag": tag},
        "secrets": ["s3-credentials"],
        "head": {"resources": small},
        "chroma": {"resources": small, "storage": "1Gi"},
        "workers": [
            {"name": "cpu", "min": 1, "max": 1, "cpus": 2, "memory": "6Gi", "resources": {"requests": {"cpu": "500m"}}}
        ],
        "networkPolicy": {"egressPorts": [7070]},
    }


@contextmanager
def restricted() -> Iterator[Namespace]:
    """A namespace that takes only pods of the restricted level, for the time of the block."""
    made = Namespace(f"ragjob-{uuid4().hex[:8]}")
    subprocess.run(["kubectl", "create", "namespace", made.name], check=True, capture_output=True)
    label = "pod-security.kubernetes.io/enforce=restricted"
    subprocess.run(["kubectl", "label", "namespace", made.name, label], check=True, capture_output=True)
    try:
        yield made
    finally:
        subprocess.run(["kubectl", "delete", "namespace", made.name, "--wait=false"], check=True, capture_output=True)


@contextmanager
def forwarded(namespace: Namespace, what: str, port: int) -> Iterator[int]:
    """A local port that leads to `port` of a pod or service."""
    local = free_port()
    command = ["kubectl", "--namespace", namespace.name, "port-forward", what, f"{local}:{port}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with listening(subprocess.Popen(command, **quiet), local):
        yield local


@contextmanager
def listening(forward: "subprocess.Popen[bytes]", port: int) -> Iterator[None]:
    """For the time of the block, a process that forwards a local port."""
    try:
        wait_until(lambda: _listens(port), 30)
        yield
    finally:
        forward.terminate()
        forward.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
