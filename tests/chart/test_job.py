"""The job and its workers: what it is named, what it runs, and what it is told of the cluster."""

import json
from typing import Any

import pytest
import yaml

from tests.chart.rendering import (
    CPU_GROUP,
    GPU_GROUP,
    URIS,
    example,
    groups_of,
    head_env,
    needs_helm,
    pods,
    template,
    values_at,
)

ON_A_GPU = {"generate": {"pool": {"num_gpus": 1}}}


@needs_helm
def test_the_configmap_holds_the_settings_as_they_stand() -> None:
    config = URIS | {
        "augment": {"template": "{context}\n\n# {prompt}: |-\n"},
        "embed": {"pool": {"min": 1, "max": 1, "num_cpus": 0.7, "num_gpus": 0}},
        "retrieve": {"pool": {"min": 1, "max": 1, "num_cpus": 0.1, "num_gpus": 0}},
        "generate": {"pool": {"min": 1, "max": 1, "num_cpus": 0.5, "num_gpus": 0}},
    }
    assert yaml.safe_load(template({"config": config})["ConfigMap"]["data"]["job.yaml"]) == config


@needs_helm
def test_equal_values_make_the_same_job() -> None:
    assert template({"rerun": "a"}) == template({"rerun": "a"})


@needs_helm
@pytest.mark.parametrize(
    "values",
    [
        {"image": {"tag": "other"}},
        {"config": {"commit_rows": 7}},
        {"rerun": "again"},
        {"command": "index"},
        {"head": {"env": [{"name": "A", "value": "b"}]}},
        {"secrets": ["other"]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_changed_values_make_another_job_with_settings_of_its_own(values: dict[str, Any]) -> None:
    before, after = template({}), template(values)
    name = after["RayJob"]["metadata"]["name"]
    assert name != before["RayJob"]["metadata"]["name"]
    assert after["ConfigMap"]["metadata"]["name"] == name
    assert pods(after)["worker"]["volumes"][0]["configMap"]["name"] == name


@needs_helm
@pytest.mark.parametrize(
    "values",
    [
        {"job": {"ttlSecondsAfterFinished": 60, "backoffLimit": 5}},
        {"image": {"pullPolicy": "Always"}},
        {"submitter": {"nodeSelector": {"a": "b"}}},
        {"chroma": {"resources": {}}},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_doesnt_decide_the_job_leaves_its_name(values: dict[str, Any]) -> None:
    assert template(values)["RayJob"]["metadata"]["name"] == template({})["RayJob"]["metadata"]["name"]


@needs_helm
def test_a_rerun_may_be_a_number() -> None:
    names = {template({}, "--set", f"rerun={rerun}")["RayJob"]["metadata"]["name"] for rerun in ("2", "20260301", "b")}
    assert len(names) == 3


@needs_helm
def test_sections_of_config_can_be_unset() -> None:
    for section in ("config.embed.pool", "config.generate", "config.retrieve.pool.max"):
        assert "RayJob" in template({}, "--set", f"{section}=null")


@needs_helm
@pytest.mark.parametrize("release", ["a", "answers-of-a-very-long-name-for-a-release-in-helm-53"])
def test_names_stay_within_what_kuberay_takes(release: str) -> None:
    assert len(template({}, release=release)["RayJob"]["metadata"]["name"]) <= 47


@needs_helm
def test_the_job_is_told_of_the_groups() -> None:
    cpu = {"name": "cpu", "min": 0, "max": 4, "cpus": 2, "memory": "6Gi", "resources": {"limits": {"memory": "8G"}}}
    env = head_env(template({"workers": [cpu, GPU_GROUP | {"gpuMemory": "80Gi"}], "config": ON_A_GPU}))
    assert json.loads(env["RAGJOB__CLUSTER__GROUPS"]) == [
        {"name": "cpu", "cpus": 2, "gpus": 0, "memory_gb": 8, "min": 0, "max": 4},
        {"name": "gpu", "cpus": 8, "gpus": 1, "memory_gb": 34.36, "gpu_gb": 85.899, "min": 4, "max": 4},
    ]


@needs_helm
@pytest.mark.parametrize(
    ("memory", "gigabytes"), [("6Gi", 6.442), ("500M", 0.5), ("8589934592", 8.59), ("1.5Ti", 1649.267)]
)
def test_memory_is_told_in_units_of_10_to_the_9_bytes(memory: str, gigabytes: float) -> None:
    of_the_pod = {"limits": {"memory": int(memory) if memory.isdigit() else memory}}
    env = head_env(template(values_at("workers.0.resources", of_the_pod)))
    assert json.loads(env["RAGJOB__CLUSTER__GROUPS"])[0]["memory_gb"] == gigabytes
    env = head_env(template(values_at("workers.0.memory", memory)))
    assert json.loads(env["RAGJOB__CLUSTER__GROUPS"])[0]["memory_gb"] == gigabytes


@needs_helm
def test_workers_start_once_the_plan_has_passed() -> None:
    (group,) = groups_of(template({}))
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (0, 0, 1)
    (group,) = groups_of(template({"job": {"planFirst": False}}))
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 1)


@needs_helm
def test_a_groups_nodes_have_its_name_as_a_label_of_rays() -> None:
    labels = {group["groupName"]: group["labels"] for group in groups_of(example("gpu-split"))}
    assert labels == {name: {"ray.io/node-group": name} for name in ("embed", "generate", "generate-spot")}


@needs_helm
def test_what_config_says_of_the_cluster_stands() -> None:
    env = head_env(template({"config": {"cluster": {"groups": [{"name": "cpu", "cpus": 2}]}}}))
    assert env.keys() == {"RAY_JOB_STOP_WAIT_TIME_S", "RAGJOB__CHROMA__URL"}


@needs_helm
def test_the_job_has_time_to_stop() -> None:
    assert head_env(template({}))["RAY_JOB_STOP_WAIT_TIME_S"] == "30"


@needs_helm
@pytest.mark.parametrize("command", ["run", "index", "load", "answer"])
def test_every_command_is_what_the_job_runs(command: str) -> None:
    assert template({"command": command})["RayJob"]["spec"]["entrypoint"].startswith(f"ragjob {command} ")


@needs_helm
@pytest.mark.parametrize(
    ("plan_first", "least", "scales"), [(False, 1, False), (False, 0, True), (True, 1, True), (True, 0, True)]
)
def test_the_autoscaler_runs_where_a_group_can_grow(plan_first: bool, least: int, scales: bool) -> None:
    values = {"job": {"planFirst": plan_first}, "workers": [CPU_GROUP | {"min": least}]}
    cluster = template(values)["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is scales
    assert ("autoscalerOptions" in cluster) is scales
