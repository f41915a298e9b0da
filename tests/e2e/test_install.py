"""The chart, installed on a cluster: answers on S3, as a local run gives them."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.cluster import CHART, Namespace
from tests.e2e.conftest import DATA
from tests.services import Bucket

COMPARED = ["prompt", "answer", "retrieved_texts", "error"]
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))


def published(bucket: Bucket) -> list[pa.Table]:
    """All published answers in the bucket, a table a run."""
    keys = [key for key in bucket.keys("answers/") if key.endswith("/answers.parquet")]
    client = bucket.server.client()
    return [pq.read_table(io.BytesIO(client.get_object(Bucket=bucket.name, Key=key)["Body"].read())) for key in keys]


@pytest.fixture(scope="session")
def local_answers(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The same questions, answered on this machine."""
    folder = tmp_path_factory.mktemp("local")
    uris = {"corpus": DATA / "around.txt", "prompts": DATA / "prompts.parquet", "index": "index", "output": "answers"}
    sets = [part for key, value in uris.items() for part in ("--set", f"{key}.uri={value}")]
    command = [sys.executable, "-m", "job", "run", "--quiet", "--set", "embed.dtype=float32", *sets]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return pq.read_table(next(folder.glob("answers/*/answers.parquet")))


def test_an_installed_job_answers_as_a_local_run_does_and_again_only_when_told(
    namespace: Namespace, values: dict[str, Any], bucket: Bucket, local_answers: pa.Table
) -> None:
    notes = namespace.helm("install", values)
    (first,) = namespace.rayjobs()
    assert namespace.wait(first)["jobStatus"] == "SUCCEEDED", namespace.log(first)
    assert f"kubectl -n {namespace.name} logs -f job/{first}" in notes
    (answers,) = published(bucket)
    assert answers.num_rows == 23
    assert answers.select(COMPARED) == local_answers.select(COMPARED)

    namespace.helm("upgrade", values)
    assert namespace.rayjobs() == [first]

    bucket.server.client().put_object(
        Bucket=bucket.name, Key="others.jsonl", Body=json.dumps({"prompt": "Who is Passepartout?"}).encode()
    )
    values["config"]["prompts"] = {"uri": f"{bucket.uri}/others.jsonl"}
    namespace.helm("upgrade", values)
    (second,) = namespace.rayjobs()
    assert namespace.wait(second)["jobStatus"] == "SUCCEEDED", namespace.log(second)
    assert sorted(table.num_rows for table in published(bucket)) == [1, 23]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_the_api_server_takes_every_object_of_an_example(example: Path, namespace: Namespace) -> None:
    rendered = namespace.run("helm", "template", "answers", CHART, "--values", example)
    checked = namespace.run("kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-", given=rendered)
    assert "rayjob.ray.io/answers-" in checked
    assert "statefulset.apps/answers-chroma" in checked
