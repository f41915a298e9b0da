"""The chart renders what its values promise, and refuses what can't run. Nothing here needs a cluster."""

import json
import os
import re
import shutil
import subprocess
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm import render as made
from ragjob.config import JobSettings, load_settings
from ragjob.planning import packing as fit
from ragjob.planning.memory import actor_bytes, check_memory
from ragjob.runtime.cluster import resources
from tests.engines.shapes import MINILM, QWEN_05B, QWEN_7B, engine_of, listed

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm/ragjob"
EXAMPLES = sorted(file.stem for file in (CHART / "examples").glob("*.yaml"))
HELM = os.environ.get("HELM") or shutil.which("helm")
CPU_GROUP = {"name": "cpu", "min": 1, "max": 1, "cpus": 2, "memory": "6Gi"}
GPU_GROUP = {"name": "gpu", "min": 4, "max": 4, "cpus": 8, "gpus": 1, "memory": "32Gi"}
URIS = {name: {"uri": f"s3://bucket/{name}"} for name in ("corpus", "prompts", "index", "output")}

VOLUME, MOUNT = [{"name": "v", "emptyDir": {}}], [{"name": "v", "mountPath": "/v"}]
ENV = [{"name": "A", "value": "b"}]
PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
ON_A_GPU = {"generate": {"pool": {"num_gpus": 1}}}

DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}

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


def refusal(values: dict[str, Any], release: str = "answers") -> str:
    rendered = helm("template", release, CHART, values=values)
    assert rendered.returncode != 0
    return rendered.stderr


def at(tree: Any, path: str) -> Any:
    """The node at `a.0.b`; a key with dots in it is written with slashes for them."""
    keys = [int(key) if key.isdigit() else key.replace("|", ".") for key in path.split(".")]
    return reduce(lambda node, key: node[key], keys, tree)


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


def secrets_of(pod: dict[str, Any]) -> list[str]:
    """The Secrets that a pod gets as environment variables."""
    return [source["secretRef"]["name"] for source in pod["containers"][0]["envFrom"]]


def egress(documents: Documents, policy: str) -> list[dict[str, Any]]:
    """What the pods of a NetworkPolicy may call: each other first, then DNS, then what lies outside."""
    rules: list[dict[str, Any]] = documents[f"NetworkPolicy/{policy}"]["spec"]["egress"]
    return rules


def release_labels(documents: Documents) -> dict[str, str]:
    """The labels that all pods of the release have."""
    labels: dict[str, str] = documents["NetworkPolicy/ray"]["spec"]["podSelector"]["matchLabels"]
    return labels


def head_env(documents: Documents) -> dict[str, str]:
    env = pods(documents)["head"]["containers"][0]["env"]
    return {variable["name"]: variable["value"] for variable in env}


def test_the_schema_of_config_is_the_settings_own() -> None:
    assert made.SCHEMA.read_text("utf-8") == made.schema(), "run `make manifests`"


def test_the_pools_in_the_values_are_the_settings_defaults() -> None:
    pools = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["config"]
    assert pools == {name: {"pool": fit.pool(JobSettings(), name).model_dump(exclude_none=True)} for name in pools}


def test_the_ray_version_is_the_pinned_one() -> None:
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    assert pinned
    assert f"rayVersion: {pinned[1]}\n" in (CHART / "templates/_spec.tpl").read_text("utf-8")


@needs_helm
@pytest.mark.parametrize("overlay", ["base", "kind"])
def test_the_manifests_are_the_rendered_chart(overlay: str) -> None:
    assert (ROOT / "k8s" / overlay / "ragjob.yaml").read_text("utf-8") == made.manifests(overlay), (
        "run `make manifests`"
    )


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_passes_lint(name: str) -> None:
    linted = helm("lint", "--strict", CHART, "--values", CHART / "examples" / f"{name}.yaml")
    assert linted.returncode == 0, linted.stdout


@needs_helm
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_settings_that_plan_finds_room_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = example(name)
    file = tmp_path / "job.yaml"
    file.write_text(documents["ConfigMap"]["data"]["job.yaml"])
    monkeypatch.setenv("RAGJOB__CLUSTER__GROUPS", head_env(documents)["RAGJOB__CLUSTER__GROUPS"])
    settings = load_settings(file, [])
    size = resources(settings.cluster)
    assert "run" in documents["RayJob"]["spec"]["entrypoint"]
    assert fit.check_pools(settings, ["index", "answer"], size)
    for model in (QWEN_05B, QWEN_7B):
        actors = actor_bytes(listed(MINILM), [engine_of(settings, listed(model))])
        assert check_memory(settings, ["index", "answer"], size, actors, 0, MINILM.width)


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
@pytest.mark.parametrize(
    ("env", "past_it"),
    [
        ([PROXY], {"NO_PROXY": "answers-chroma", "no_proxy": "answers-chroma"}),
        (
            [PROXY | {"name": "http_proxy"}, {"name": "no_proxy", "value": "10.0.0.0/8"}],
            {"no_proxy": "10.0.0.0/8,answers-chroma", "NO_PROXY": "10.0.0.0/8,answers-chroma"},
        ),
        ([PROXY, {"name": "NO_PROXY", "value": ""}], {"NO_PROXY": "answers-chroma", "no_proxy": "answers-chroma"}),
        (ENV, {}),
    ],
)
def test_a_proxy_is_not_asked_for_the_charts_own_chroma(env: list[dict[str, str]], past_it: dict[str, str]) -> None:
    pod_specs = pods(template({"head": {"env": env}, "workers": [CPU_GROUP | {"env": env}]}))
    for pod in ("head", "worker"):
        variables = {variable["name"]: variable["value"] for variable in pod_specs[pod]["containers"][0]["env"]}
        assert {name: value for name, value in variables.items() if name.lower() == "no_proxy"} == past_it
        assert (
            variables.items()
            >= {variable["name"]: variable["value"] for variable in env if "no" not in variable["name"].lower()}.items()
        )


@needs_helm
def test_a_proxy_is_asked_for_another_chroma() -> None:
    values = {"head": {"env": [PROXY]}, "config": {"chroma": {"url": "http://chroma.other:8000"}}}
    assert "NO_PROXY" not in str(template(values)["RayJob"])


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
@pytest.mark.parametrize("release", ["a", "answers-of-a-very-long-name-for-a-release-in-helm-53"])
def test_names_stay_within_what_kuberay_takes(release: str) -> None:
    assert len(template({}, release=release)["RayJob"]["metadata"]["name"]) <= 47


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
def test_the_job_uses_the_charts_chroma() -> None:
    documents = template({})
    service = documents["Service/chroma"]
    port = service["spec"]["ports"][0]["port"]
    assert head_env(documents)["RAGJOB__CHROMA__URL"] == f"http://{service['metadata']['name']}:{port}"
    assert service["spec"]["selector"] == documents["StatefulSet/chroma"]["spec"]["template"]["metadata"]["labels"]


@needs_helm
def test_a_chroma_that_exists_is_used_instead() -> None:
    documents = template({"config": {"chroma": {"url": "http://chroma.other:8000"}}})
    assert [kind for kind in documents if kind.endswith("/chroma")] == []
    assert "RAGJOB__CHROMA__URL" not in str(documents["RayJob"])


@needs_helm
@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({}, [443]),
        ({"config": {"chroma": {"url": "http://chroma.other:8000"}}}, [443, 8000]),
        ({"config": {"chroma": {"url": "http://chroma.other"}}}, [443, 80]),
        ({"config": {"s3": {"endpoint_url": "https://s3.other"}}, "networkPolicy": {"egressPorts": []}}, [443]),
        ({"config": {"generate": {"openai": {"base_url": "http://vllm.models.svc:8001/v1"}}}}, [443, 8001]),
        ({"workers": [CPU_GROUP | {"min": 0}], "networkPolicy": {"egressPorts": [9000]}}, [9000, 443, 6443]),
        ({"networkPolicy": {"egressPorts": [9000]}, "job": {"planFirst": True}}, [9000, 443, 6443]),
    ],
)
def test_the_job_may_call_what_its_settings_name(values: dict[str, Any], ports: list[int]) -> None:
    _, _, outside = egress(template({"job": {"planFirst": False}} | values), "ray")
    assert [rule["port"] for rule in outside["ports"]] == ports


@needs_helm
def test_without_ports_the_job_calls_nothing_outside() -> None:
    documents = template({"job": {"planFirst": False}, "networkPolicy": {"egressPorts": []}})
    release, dns = egress(documents, "ray")
    assert release == {"to": [{"podSelector": {"matchLabels": release_labels(documents)}}]}
    assert dns == DNS


@needs_helm
def test_dns_goes_to_the_clusters_own_alone() -> None:
    documents = template({})
    assert DNS in egress(documents, "ray")
    assert DNS in egress(documents, "submitter")


@needs_helm
def test_an_endpoint_without_tls_doesnt_open_the_metadata_address() -> None:
    values = {"config": {"s3": {"endpoint_url": "http://s3.example.org"}}}
    *_, outside = egress(template(values), "ray")
    assert {"port": 80} in outside["ports"]
    assert outside["to"] == [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::/32"]}},
        {"namespaceSelector": {}},
    ]


@needs_helm
def test_a_link_local_address_is_called_where_it_is_asked_for() -> None:
    *_, asked = egress(template({"networkPolicy": {"egressLinkLocal": ["169.254.170.23/32"]}}), "ray")
    assert asked == {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}]}


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


@needs_helm
def test_gpus_are_limits_for_kubernetes_and_resources_for_ray() -> None:
    group = example("gpu-shared")["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert group["rayStartParams"] == {"num-cpus": "8", "num-gpus": "1"}
    assert group["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "8", "memory": "32Gi"},
        "limits": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": 1},
    }


@needs_helm
def test_only_this_jobs_ray_reaches_chroma() -> None:
    policy = template({})["NetworkPolicy/chroma"]["spec"]
    (source,) = policy["ingress"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "chroma"
    assert source["ports"] == [{"port": 8000}]
    assert source["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "answers"
    assert source["from"][0]["podSelector"]["matchExpressions"][0]["values"] == ["head", "worker"]


@needs_helm
def test_only_operator_and_submitter_reach_the_dashboard_beside_ray() -> None:
    ingress = template({})["NetworkPolicy/ray"]["spec"]["ingress"]
    assert [rule.get("ports") for rule in ingress] == [None, [{"port": 8265}]]
    submitter, operator = ingress[1]["from"]
    assert submitter["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "submitter"
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kuberay-system"}


@needs_helm
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "config.corpus.uri: required by `run`; set it, e.g. to s3://bucket/corpus"),
        ({"command": "answer"}, "config.prompts.uri: required by `answer`"),
        ({"config": URIS | {"chroma": {"path": "/data"}}}, "config.chroma.path: for a server on the job's own machine"),
        ({"config": URIS | {"chunks": {}}}, "chunks"),
        ({"config": URIS | {"chunk": {"size": "many"}}}, "config/chunk/size"),
        ({"config": URIS, "worker": []}, "worker"),
        (
            {"config": URIS | {"cluster": {"gpu_gb": 40}}},
            "config.cluster: the chart describes the workers to the job; leave",
        ),
        ({"config": URIS | {"embed": {"pool": {"min": 4}}}}, "config.embed.pool: min 4 is above max 1; raise max"),
        (
            {"config": URIS | {"generate": {"engine": "openai"}}},
            "config.generate.openai.base_url: required by engine openai; set it, e.g. to http://HOST:8000/v1",
        ),
        ({"config": URIS | {"generate": {"engine": "vllm"}}}, "image.tag: 0.1.0-cpu has no vLLM"),
        (
            {"config": URIS | {"s3": {"kms_key_id": "alias/answers"}}},
            "config.s3.kms_key_id: only used when config.s3.sse is aws:kms; set that too, or leave the key out",
        ),
        ({"config": URIS, "workers": [CPU_GROUP | {"min": 5}]}, "group cpu has a min above its max, 1; raise max"),
        ({"config": URIS, "workers": [CPU_GROUP, CPU_GROUP]}, "two groups are named cpu; give each its own name"),
        ({"config": URIS, "workers": [GPU_GROUP]}, "group gpu has GPUs that no pool uses; set num_gpus of"),
        ({"config": URIS, "workers": [CPU_GROUP | {"memory": "6 GB"}]}, "memory"),
        (
            {"config": URIS, "head": {"env": [PROXY, {"name": "NO_PROXY", "valueFrom": {}}]}},
            "NO_PROXY: write its value out, the chart adds its own Chroma to it",
        ),
        ({"config": URIS, "head": {"volumes": [{"name": "settings"}]}}, "head: a volume named settings already exists"),
        (
            {"config": URIS, "workers": [CPU_GROUP | {"volumes": VOLUME * 2}]},
            "cpu: a volume named v already exists; give",
        ),
        (
            {"config": URIS, "head": {"volumes": VOLUME, "volumeMounts": [MOUNT[0] | {"mountPath": "/etc/ragjob/"}]}},
            "head: something is mounted at /etc/ragjob already; mount yours elsewhere",
        ),
        (
            {"config": URIS, "head": {"volumes": VOLUME, "volumeMounts": MOUNT * 2}},
            "head: something is mounted at /v already",
        ),
        ({"config": URIS, "head": {"volumeMounts": MOUNT}}, "head: there is no volume v to mount at /v; add it"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_cannot_run_is_refused_with_the_value_to_change(values: dict[str, Any], says: str) -> None:
    assert says in refusal(values)


@needs_helm
@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"config": {"chroma": {"url": "http://me:hunter2@chroma:8000"}}}, "config.chroma.url"),
        ({"config": {"s3": {"endpoint_url": "https://hunter2@s3.example.org"}}}, "config.s3.endpoint_url"),
        ({"config": {"corpus": {"uri": "s3://me:hunter2@bucket/corpus"}}}, "config.corpus.uri"),
        ({"head": {"env": [PROXY | {"value": "http://me:hunter2@proxy:3128"}]}}, "env HTTPS_PROXY"),
        ({"workers": [CPU_GROUP | {"env": [PROXY | {"value": "HTTP://hunter2@proxy"}]}]}, "env HTTPS_PROXY"),
    ],
    ids=["chroma", "s3", "corpus", "head", "worker"],
)
def test_credentials_in_an_address_are_refused_and_not_echoed(values: dict[str, Any], place: str) -> None:
    said = refusal(values | {"config": URIS | values.get("config", {})})
    assert f"{place}: an address contains a user name or password; leave them out and keep them in" in said
    assert "hunter2" not in said


@needs_helm
def test_an_at_sign_behind_the_host_is_no_credential() -> None:
    config = {"corpus": {"uri": "s3://bucket/a@b/"}, "augment": {"template": "Mail me@example.org: {context} {prompt}"}}
    assert "RayJob" in template({"config": config})


@needs_helm
def test_a_release_that_kuberay_would_refuse_is_refused_at_once() -> None:
    assert "release name 7up: KubeRay needs one that begins with a letter" in refusal({"config": URIS}, "7up")


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
}  # tested above and below


def leaves(node: dict[str, Any], prefix: str = "") -> set[str]:
    """The paths of all values that the schema knows beside `config`."""
    if "properties" not in node:
        items = node.get("items", {})
        return leaves(items, f"{prefix}.0") if "properties" in items else {prefix}
    parts = {f"{prefix}.{name}".lstrip("."): child for name, child in node["properties"].items() if name != "config"}
    return {leaf for path, child in parts.items() for leaf in leaves(child, path)}


def values_at(path: str, value: Any) -> dict[str, Any]:
    """Values with `value` at `path`; a group of workers is whole beside it."""
    first, *rest = path.split(".")
    if first == "workers":
        return {"workers": [{"name": "cpu", "min": 1, "max": 2, "cpus": 2, "memory": "6Gi", rest[1]: value}]}
    return {first: {rest[0]: value}} if rest else {first: value}


def test_every_value_has_its_place_tested() -> None:
    assert leaves(json.loads(made.SCHEMA.read_text("utf-8"))) == PLACES.keys() | ELSEWHERE


@needs_helm
@pytest.mark.parametrize("path", PLACES)
def test_a_value_reaches_its_place(path: str) -> None:
    value, kind, place, expected = PLACES[path]
    assert at(template(values_at(path, value))[kind], place) == expected


@needs_helm
def test_network_policies_can_be_left_out() -> None:
    documents = template({"networkPolicy": {"enabled": False}})
    assert [kind for kind in documents if kind.startswith("NetworkPolicy")] == []


@needs_helm
def test_a_service_account_that_exists_is_not_made() -> None:
    assert "ServiceAccount" not in template({"serviceAccount": {"name": "mine"}})
