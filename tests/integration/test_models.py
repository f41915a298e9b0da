"""Models that no node has yet: fetched by whoever uses them, once."""

from pathlib import Path

import pytest

from tests.fakes import tiny_qwen2
from tests.faults import proxy
from tests.integration.conftest import Job
from tests.models.fake_hub import NAME, serve
from tests.services import Bucket

pytestmark = [pytest.mark.ray, pytest.mark.services]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.soak
def test_models_from_s3_and_the_hub_are_fetched_once_and_a_finished_job_fetches_nothing(
    job: Job, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, body in content(tiny_qwen2(job.folder / "embedder", seed=1)).items():
        bucket.write(f"embedder/{path}", body)
    generator = content(tiny_qwen2(job.folder / "generator"))
    with proxy(bucket.server.endpoint) as way, serve(generator, COMMIT) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(job.folder / "hub"))
        s3 = {"s3__endpoint_url": way.url, "s3__region": bucket.server.region}
        models = {"embed__model": f"{bucket.uri}/embedder", "generate__model": NAME}
        engine = {"generate__engine": "transformers", "generate__max_new_tokens": 2, "augment__max_context_tokens": 300}
        settings = s3 | models | engine | {"chunk__size": 100, "models__cache": job.folder / "cache"}
        ended = job("run", **settings)
        assert (ended.code, ended.err) == (0, "")
        assert set(job.answers()["generate_model"].to_pylist()) == {f"{NAME}@{COMMIT[:12]}"}
        assert hub.downloads().count("model.safetensors") == 1
        fetched = [request.target for request in way.seen if request.kind == "GET object"]
        assert len([target for target in fetched if "model.safetensors" in target]) == 1

        way.seen.clear()
        hub.requests.clear()
        again = job("run", **settings)
        assert (again.code, "Already done" in again.out) == (0, True), again
        assert (dict(way.counts()), hub.downloads()) == ({"GET list": 1}, [])
