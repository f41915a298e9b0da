"""Whom the pods call, and who reaches them: Chroma, proxies and network policies."""

from typing import Any

import pytest

from tests.chart.rendering import CPU_GROUP, ENV, PROXY, Documents, head_env, needs_helm, pods, template

DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}


def egress(documents: Documents, policy: str) -> list[dict[str, Any]]:
    """What the pods of a NetworkPolicy may call: each other first, then DNS, then what lies outside."""
    rules: list[dict[str, Any]] = documents[f"NetworkPolicy/{policy}"]["spec"]["egress"]
    return rules


def release_labels(documents: Documents) -> dict[str, str]:
    """The labels that all pods of the release have."""
    labels: dict[str, str] = documents["NetworkPolicy/ray"]["spec"]["podSelector"]["matchLabels"]
    return labels


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
def test_network_policies_can_be_left_out() -> None:
    documents = template({"networkPolicy": {"enabled": False}})
    assert [kind for kind in documents if kind.startswith("NetworkPolicy")] == []
