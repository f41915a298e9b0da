"""Whatever dies in mid-run, every prompt is answered exactly once."""

import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.cluster import Namespace, wait_until
from tests.services import Bucket

pytestmark = pytest.mark.soak

PROMPTS = 400


@pytest.fixture
def many(bucket: Bucket, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a job that is long enough to be met in its middle: many prompts, in small parts."""
    rows = [json.dumps({"prompt": f"What does Fogg do on day {day}?"}) for day in range(PROMPTS)]
    body = "\n".join(rows).encode()
    bucket.server.client().put_object(Bucket=bucket.name, Key="many.jsonl", Body=body)
    values["config"] |= {"prompts": {"uri": f"{bucket.uri}/many.jsonl"}, "commit_rows": 8}
    return values


def staged(bucket: Bucket) -> list[str]:
    return [key for key in bucket.keys("answers/_staging/") if "/part-" in key]


def start(namespace: Namespace, values: dict[str, Any], bucket: Bucket) -> str:
    """Install it, and wait until some answers are staged."""
    namespace.helm("install", values)
    wait_until(lambda: len(staged(bucket)) >= 3, 400)
    (rayjob,) = namespace.rayjobs()
    return rayjob


def check_answers(bucket: Bucket) -> None:
    """Every prompt has one row, and nothing is left over."""
    (key,) = [key for key in bucket.keys("answers/") if key.endswith("/answers.parquet")]
    body = bucket.server.client().get_object(Bucket=bucket.name, Key=key)["Body"].read()
    answers = pq.read_table(io.BytesIO(body))
    assert sorted(answers["prompt"].to_pylist()) == sorted(f"What does Fogg do on day {day}?" for day in range(PROMPTS))
    assert answers["error"].null_count == PROMPTS
    assert staged(bucket) == []


@pytest.mark.parametrize("component", ["head", "worker", "chroma", "submitter"])
def test_a_job_outlives_the_death_of_its_pod(
    component: str, namespace: Namespace, many: dict[str, Any], bucket: Bucket
) -> None:
    rayjob = start(namespace, many, bucket)
    (pod,) = namespace.pods(component)
    namespace.run("kubectl", "delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    assert namespace.wait(rayjob, 700)["jobStatus"] == "SUCCEEDED"
    check_answers(bucket)


def test_a_job_outlives_the_death_of_a_raylet(namespace: Namespace, many: dict[str, Any], bucket: Bucket) -> None:
    rayjob = start(namespace, many, bucket)
    (pod,) = namespace.pods("worker")
    kill = "import psutil; [p.kill() for p in psutil.process_iter() if p.name() == 'raylet']"
    namespace.run("kubectl", "exec", pod["metadata"]["name"], "--", "python", "-c", kill)
    assert namespace.wait(rayjob, 700)["jobStatus"] == "SUCCEEDED"
    check_answers(bucket)


def test_a_deleted_job_that_is_installed_again_keeps_its_answers(
    namespace: Namespace, many: dict[str, Any], bucket: Bucket
) -> None:
    rayjob = start(namespace, many, bucket)
    namespace.run("kubectl", "delete", "rayjob", rayjob)
    namespace.helm("upgrade", many)
    assert namespace.wait(rayjob, 700)["jobStatus"] == "SUCCEEDED"
    assert "kept from an earlier attempt" in namespace.log(rayjob)
    check_answers(bucket)
