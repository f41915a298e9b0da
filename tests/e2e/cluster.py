"""A namespace of the cluster that KUBECONFIG names, as kubectl and helm show it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.services import Bucket

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/ragjob"
ENDED = ("Complete", "Failed")


@dataclass(frozen=True)
class Namespace:
    """One namespace; `run` and what is built on it fail the test when the command fails."""

    name: str

    def run(self, *command: object, given: str | None = None) -> str:
        program, *arguments = map(str, command)
        ran = subprocess.run(
            [program, "--namespace", self.name, *arguments], input=given, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{' '.join(map(str, command))}: {ran.stderr}{ran.stdout}"
        return ran.stdout

    def helm(self, action: str, values: dict[str, Any], *options: object) -> str:
        """`helm install`, `upgrade` or `template` of release `answers`."""
        return self.run("helm", action, "answers", CHART, *options, "--values", "-", given=json.dumps(values))

    def get(self, *what: str) -> list[dict[str, Any]]:
        """Objects, as `kubectl get` lists them."""
        items: list[dict[str, Any]] = json.loads(self.run("kubectl", "get", *what, "--output", "json"))["items"]
        return items

    def rayjobs(self) -> list[str]:
        return [resource["metadata"]["name"] for resource in self.get("rayjobs")]

    def status(self, rayjob: str) -> dict[str, Any]:
        (resource,) = [resource for resource in self.get("rayjobs") if resource["metadata"]["name"] == rayjob]
        status: dict[str, Any] = resource.get("status", {})
        return status

    def wait(self, rayjob: str, seconds: float = 500) -> dict[str, Any]:
        """The status of a RayJob that has ended."""
        wait_until(lambda: self.status(rayjob).get("jobDeploymentStatus") in ENDED, seconds)
        return self.status(rayjob)

    def pods(self, component: str) -> list[dict[str, Any]]:
        return self.get("pods", "--selector", f"app.kubernetes.io/component={component}")

    def log(self, rayjob: str) -> str:
        """What the job has printed, as its submitter has it."""
        return self.run("kubectl", "logs", f"job/{rayjob}")


def wait_until(true: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something to happen. Fails the test when it doesn't."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(1)


def standing(namespace: Namespace, values: dict[str, Any]) -> str:
    """Install the chart with a Ray cluster in the RayJob's place; the head's pod, once the workers are ready."""
    rendered = [manifest for manifest in yaml.safe_load_all(namespace.helm("template", values)) if manifest]
    (job,) = [manifest for manifest in rendered if manifest["kind"] == "RayJob"]
    job |= {"kind": "RayCluster", "metadata": {"name": "standing"}, "spec": job["spec"]["rayClusterSpec"]}
    namespace.run("kubectl", "apply", "-f", "-", given=yaml.safe_dump_all(rendered))
    namespace.run("kubectl", "wait", "raycluster/standing", "--for=condition=RayClusterProvisioned", "--timeout=300s")
    (head,) = namespace.pods("head")
    name: str = head["metadata"]["name"]
    return name


def submit(namespace: Namespace, values: dict[str, Any], folder: Path) -> "subprocess.Popen[str]":
    """Start `ragjob submit` of release `answers`, with the chart."""
    file = folder / "values.yaml"
    file.write_text(json.dumps(values))
    options = ["--chart", CHART, "--release", "answers", "--namespace", namespace.name]
    command = [sys.executable, "-m", "ragjob", "submit", file, *options]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def published(bucket: Bucket) -> list[pa.Table]:
    """All published answers in the bucket, a table a run."""
    keys = [key for key in bucket.keys("answers/") if key.endswith("/answers.parquet")]
    return [pq.read_table(pa.BufferReader(bucket.read(key))) for key in keys]
