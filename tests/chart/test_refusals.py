"""The chart refuses what can't run, and says which value to change."""

from typing import Any

import pytest

from tests.chart.rendering import CHART, CPU_GROUP, GPU_GROUP, MOUNT, PROXY, URIS, VOLUME, helm, needs_helm, template


def refusal(values: dict[str, Any], release: str = "answers") -> str:
    rendered = helm("template", release, CHART, values=values)
    assert rendered.returncode != 0
    return rendered.stderr


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
