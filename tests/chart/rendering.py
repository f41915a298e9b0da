"""The chart as Helm renders it, and where to look in what comes out. Nothing here needs a cluster."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/ragjob"
EXAMPLES = sorted(file.stem for file in (CHART / "examples").glob("*.yaml"))
HELM = os.environ.get("HELM") or shutil.which("helm")

CPU_GROUP = {"name": "cpu", "min": 1, "max": 1, "cpus": 2, "memory": "6Gi"}
GPU_GROUP = {"name": "gpu", "min": 4, "max": 4, "cpus": 8, "gpus": 1, "memory": "32Gi"}
URIS = {name: {"uri": f"s3://bucket/{name}"} for name in ("corpus", "prompts", "index", "output")}
VOLUME, MOUNT = [{"name": "v", "emptyDir": {}}], [{"name": "v", "mountPath": "/v"}]
ENV = [{"name": "A", "value": "b"}]
PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}

needs_helm = pytest.mark.skipif(HELM is None, reason="no helm on PATH, nor named in HELM")

Documents = dict[str, dict[str, Any]]


def helm(*arguments: object, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(HELM), *map(str, arguments), "--values", "-"]
    return subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True, check=False)


def template(values: dict[str, Any], *options: object, release: str = "answers") -> Documents:
    """The rendered documents by kind and component, with the four uris set."""
    whole = values | {"config": URIS | values.get("config", {})}
    rendered = helm("template", release, CHART, *options, values=whole)
    assert rendered.returncode == 0, rendered.stderr
    return by_kind(rendered.stdout)


def by_kind(text: str) -> Documents:
    documents = [document for document in yaml.safe_load_all(text) if document]
    return {document["kind"] + suffix(document["metadata"]["name"]): document for document in documents}


def suffix(name: str) -> str:
    return "".join(f"/{part}" for part in ("chroma", "ray", "submitter") if name.endswith(f"-{part}"))


def example(name: str) -> Documents:
    return template({}, "--values", CHART / "examples" / f"{name}.yaml")


def values_at(path: str, value: Any) -> dict[str, Any]:
    """Values with `value` at `path`; a group of workers is whole beside it."""
    first, *rest = path.split(".")
    if first == "workers":
        return {"workers": [{"name": "cpu", "min": 1, "max": 2, "cpus": 2, "memory": "6Gi", rest[1]: value}]}
    return {first: {rest[0]: value}} if rest else {first: value}


def pods(documents: Documents) -> dict[str, dict[str, Any]]:
    """The specification of every pod, by component."""
    job = documents["RayJob"]["spec"]
    cluster = job["rayClusterSpec"]
    templates = [job["submitterPodTemplate"], cluster["headGroupSpec"]["template"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    templates += [documents["StatefulSet/chroma"]["spec"]["template"]]
    return {
        pod_template["metadata"]["labels"]["app.kubernetes.io/component"]: pod_template["spec"]
        for pod_template in templates
    }


def groups_of(documents: Documents) -> list[dict[str, Any]]:
    worker_groups: list[dict[str, Any]] = documents["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    return worker_groups


def head_env(documents: Documents) -> dict[str, str]:
    env = pods(documents)["head"]["containers"][0]["env"]
    return {variable["name"]: variable["value"] for variable in env}
