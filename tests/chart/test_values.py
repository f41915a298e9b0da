"""Every value of the chart reaches its place in what is rendered."""

import json
from functools import reduce
from typing import Any

import pytest

from helm import render as made
from tests.chart.rendering import ENV, VOLUME, needs_helm, template, values_at

TMP_MOUNT = [{"name": "tmp", "mountPath": "/v"}]
RAY, SPEC = "RayJob", "spec.rayClusterSpec"
HEAD, WORKER = f"{SPEC}.headGroupSpec.template.spec", f"{SPEC}.workerGroupSpecs.0.template.spec"
GROUP = f"{SPEC}.workerGroupSpecs.0"
CHROMA = "spec.template.spec"
SIZE = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
PEERS = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
TOLERATION = [{"key": "a", "operator": "Exists"}]
PLACES: dict[str, tuple[Any, str, str, Any]] = {
    "command": ("index", RAY, "spec.entrypoint", "ragjob index --config /etc/ragjob/job.yaml"),
    "image.repository": ("r/x", RAY, f"{HEAD}.containers.0.image", "r/x:0.1.0-cpu"),
    "image.tag": ("t", "StatefulSet/chroma", f"{CHROMA}.containers.0.image", "localhost/ragjob:t"),
    "image.pullPolicy": ("Always", RAY, f"{WORKER}.containers.0.imagePullPolicy", "Always"),
    "image.pullSecrets": (["p"], RAY, "spec.submitterPodTemplate.spec.imagePullSecrets", [{"name": "p"}]),
    "secrets": (["s"], RAY, f"{WORKER}.containers.0.envFrom", [{"secretRef": {"name": "s"}}]),
    "serviceAccount.name": ("mine", RAY, f"{HEAD}.serviceAccountName", "mine"),
    "serviceAccount.annotations": ({"a/b": "c"}, "ServiceAccount", "metadata.annotations", {"a/b": "c"}),
    "job.backoffLimit": (5, RAY, "spec.backoffLimit", 5),
    "job.preRunningDeadlineSeconds": (5, RAY, "spec.preRunningDeadlineSeconds", 5),
    "job.activeDeadlineSeconds": (5, RAY, "spec.activeDeadlineSeconds", 5),
    "job.ttlSecondsAfterFinished": (5, RAY, "spec.ttlSecondsAfterFinished", 5),
    "head.secrets": (["s"], RAY, f"{HEAD}.containers.0.envFrom", [{"secretRef": {"name": "s"}}]),
    "head.resources": (SIZE, RAY, f"{HEAD}.containers.0.resources", SIZE),
    "head.nodeSelector": ({"a": "b"}, RAY, f"{HEAD}.nodeSelector", {"a": "b"}),
    "head.tolerations": (TOLERATION, RAY, f"{HEAD}.tolerations", TOLERATION),
    "head.env": (ENV, RAY, f"{HEAD}.containers.0.env.0", ENV[0]),
    "head.volumes": (VOLUME, RAY, f"{HEAD}.volumes.3", VOLUME[0]),
    "head.volumeMounts": (TMP_MOUNT, RAY, f"{HEAD}.containers.0.volumeMounts.3", TMP_MOUNT[0]),
    "workers.0.name": ("w", RAY, f"{GROUP}.groupName", "w"),
    "workers.0.max": (3, RAY, f"{GROUP}.maxReplicas", 3),
    "workers.0.cpus": (3, RAY, f"{GROUP}.rayStartParams.num-cpus", "3"),
    "workers.0.gpus": (0, RAY, f"{GROUP}.rayStartParams.num-gpus", "0"),
    "workers.0.memory": ("9Gi", RAY, f"{WORKER}.containers.0.resources.limits.memory", "9Gi"),
    "workers.0.resources": (SIZE, RAY, f"{WORKER}.containers.0.resources", SIZE),
    "workers.0.runtimeClassName": ("nvidia", RAY, f"{WORKER}.runtimeClassName", "nvidia"),
    "workers.0.nodeSelector": ({"a": "b"}, RAY, f"{WORKER}.nodeSelector", {"a": "b"}),
    "workers.0.tolerations": (TOLERATION, RAY, f"{WORKER}.tolerations", TOLERATION),
    "workers.0.secrets": (["s"], RAY, f"{WORKER}.containers.0.envFrom", [{"secretRef": {"name": "s"}}]),
    "workers.0.env": (ENV, RAY, f"{WORKER}.containers.0.env", ENV),
    "workers.0.volumes": (VOLUME, RAY, f"{WORKER}.volumes.3", VOLUME[0]),
    "workers.0.volumeMounts": (TMP_MOUNT, RAY, f"{WORKER}.containers.0.volumeMounts.3", TMP_MOUNT[0]),
    "scratch.tmp": ("1Gi", RAY, f"{HEAD}.volumes.1.emptyDir.sizeLimit", "1Gi"),
    "scratch.cache": ("1Gi", RAY, f"{WORKER}.volumes.2.emptyDir.sizeLimit", "1Gi"),
    "submitter.resources": (SIZE, RAY, "spec.submitterPodTemplate.spec.containers.0.resources", SIZE),
    "submitter.nodeSelector": ({"a": "b"}, RAY, "spec.submitterPodTemplate.spec.nodeSelector", {"a": "b"}),
    "submitter.tolerations": (TOLERATION, RAY, "spec.submitterPodTemplate.spec.tolerations", TOLERATION),
    "chroma.storage": (
        "3Gi",
        "StatefulSet/chroma",
        "spec.volumeClaimTemplates.0.spec.resources.requests.storage",
        "3Gi",
    ),
    "chroma.storageClassName": (
        "fast",
        "StatefulSet/chroma",
        "spec.volumeClaimTemplates.0.spec.storageClassName",
        "fast",
    ),
    "chroma.resources": (SIZE, "StatefulSet/chroma", f"{CHROMA}.containers.0.resources", SIZE),
    "chroma.nodeSelector": ({"a": "b"}, "StatefulSet/chroma", f"{CHROMA}.nodeSelector", {"a": "b"}),
    "chroma.tolerations": (TOLERATION, "StatefulSet/chroma", f"{CHROMA}.tolerations", TOLERATION),
    "networkPolicy.operatorNamespace": (
        "op",
        "NetworkPolicy/ray",
        "spec.ingress.1.from.1.namespaceSelector.matchLabels.kubernetes|io/metadata|name",
        "op",
    ),
    "networkPolicy.egressPorts": ([7070], "NetworkPolicy/ray", "spec.egress.2.ports.0", {"port": 7070}),
    "networkPolicy.egressTo": (PEERS, "NetworkPolicy/ray", "spec.egress.2.to", PEERS),
    "networkPolicy.egressLinkLocal": (
        ["169.254.170.23/32"],
        "NetworkPolicy/ray",
        "spec.egress.3.to.0.ipBlock.cidr",
        "169.254.170.23/32",
    ),
    "networkPolicy.dns": (PEERS, "NetworkPolicy/submitter", "spec.egress.1.to", PEERS),
}
ELSEWHERE = {
    "rerun",
    "networkPolicy.enabled",
    "global",
    "job.planFirst",
    "workers.0.min",
    "workers.0.gpuMemory",
}  # tested in the modules beside this one


def leaves(node: dict[str, Any], prefix: str = "") -> set[str]:
    """The paths of all values that the schema knows beside `config`."""
    if "properties" not in node:
        items = node.get("items", {})
        return leaves(items, f"{prefix}.0") if "properties" in items else {prefix}
    parts = {f"{prefix}.{name}".lstrip("."): child for name, child in node["properties"].items() if name != "config"}
    return {leaf for path, child in parts.items() for leaf in leaves(child, path)}


def at(tree: Any, path: str) -> Any:
    """The node at `a.0.b`; a key with dots in it is written with slashes for them."""
    keys = [int(key) if key.isdigit() else key.replace("|", ".") for key in path.split(".")]
    return reduce(lambda node, key: node[key], keys, tree)


def test_every_value_has_its_place_tested() -> None:
    assert leaves(json.loads(made.SCHEMA.read_text("utf-8"))) == PLACES.keys() | ELSEWHERE


@needs_helm
@pytest.mark.parametrize("path", PLACES)
def test_a_value_reaches_its_place(path: str) -> None:
    value, kind, place, expected = PLACES[path]
    assert at(template(values_at(path, value))[kind], place) == expected
