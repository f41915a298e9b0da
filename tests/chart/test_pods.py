"""What a pod may do, and what it gets: security, disk, Secrets, tokens and resources."""

from typing import Any

import pytest

from tests.chart.rendering import CPU_GROUP, EXAMPLES, example, groups_of, needs_helm, pods, template


def secrets_of(pod: dict[str, Any]) -> list[str]:
    """The Secrets that a pod gets as environment variables."""
    return [source["secretRef"]["name"] for source in pod["containers"][0]["envFrom"]]


@needs_helm
def test_volumes_of_yours_take_the_place_of_ours() -> None:
    models = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    scratch = {"name": "tmp", "emptyDir": {"medium": "Memory"}}
    values = {"volumes": [models, scratch], "volumeMounts": [{"name": "models", "mountPath": "/home/ragjob/.cache/"}]}
    pod = pods(template({"head": values}))["head"]
    named = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["mountPath"].rstrip("/"): mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert len(named) == len(pod["volumes"])
    assert (named["tmp"], named["models"]) == (scratch, models)
    assert mounted == {"/etc/ragjob": "settings", "/tmp": "tmp", "/home/ragjob/.cache": "models"}


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_pod_may_fill_its_nodes_disk(name: str) -> None:
    volumes = [volume for pod in pods(example(name)).values() for volume in pod["volumes"]]
    limits = [volume["emptyDir"].get("sizeLimit") for volume in volumes if "emptyDir" in volume]
    assert sorted(limits) == sorted(["256Mi", *["20Gi", "50Gi"] * 2, "20Gi"])


@needs_helm
def test_a_secret_goes_only_to_the_pods_that_name_it() -> None:
    workers = [CPU_GROUP, CPU_GROUP | {"name": "generate", "secrets": ["api", "all"]}]
    documents = template({"secrets": ["all"], "head": {"secrets": ["hub"]}, "workers": workers})
    head = documents["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    embedding, generating = (group["template"]["spec"] for group in groups_of(documents))
    assert secrets_of(head) == ["all", "hub"]
    assert secrets_of(embedding) == ["all"]
    assert secrets_of(generating) == ["all", "api"]
    assert "envFrom" not in pods(documents)["submitter"]["containers"][0]
    assert "envFrom" not in pods(documents)["chroma"]["containers"][0]


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_pod_keeps_to_the_restricted_level(name: str) -> None:
    for pod in pods(example(name)).values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert [container["securityContext"] for container in pod["containers"]] == [
            {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        ]


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_container_has_requests_and_limits(name: str) -> None:
    for pod in pods(example(name)).values():
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= pod["containers"][0]["resources"][kind].keys()


@needs_helm
def test_only_the_autoscaler_beside_the_head_gets_a_token_for_kubernetes() -> None:
    fixed, scaling = pods(template({"job": {"planFirst": False}})), pods(template({}))
    assert {name: pod["automountServiceAccountToken"] for name, pod in fixed.items()} == dict.fromkeys(fixed, False)
    assert [name for name, pod in scaling.items() if pod["automountServiceAccountToken"]] == ["head"]


@needs_helm
def test_gpus_are_limits_for_kubernetes_and_resources_for_ray() -> None:
    group = example("gpu-shared")["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert group["rayStartParams"] == {"num-cpus": "8", "num-gpus": "1"}
    assert group["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "8", "memory": "32Gi"},
        "limits": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": 1},
    }


@needs_helm
def test_a_service_account_that_exists_is_not_made() -> None:
    assert "ServiceAccount" not in template({"serviceAccount": {"name": "mine"}})
