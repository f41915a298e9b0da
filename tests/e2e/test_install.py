"""The chart on a cluster: answers on S3 as a local run gives them, once; `ragjob submit` beside it, to its end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ragjob.cli.sample import CORPUS, PROMPTS
from tests.documented import of_notes
from tests.e2e.cluster import CHART, published, submit, wait_until
from tests.e2e.conftest import Place, Places, listening
from tests.e2e.desk import Desk
from tests.services import free_port

COMPARED = ["prompt", "answer", "retrieved_texts", "error"]
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def installed(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, str, pa.Table]]:
    """A place where the chart is installed and its job has ended, the job's name, and answers of a local run."""
    folder = tmp_path_factory.mktemp("local")
    with places() as place, answering_here(folder) as local:
        notes = place.namespace.helm("install", place.values)
        (rayjob,) = place.namespace.rayjobs()
        assert f"kubectl -n {place.namespace.name} logs -f job/{rayjob}" in notes
        wait_until(lambda: place.namespace.status(rayjob).get("jobDeploymentStatus") == "Running", 200)
        begun = place.namespace.status(rayjob)["startTime"]
        place.namespace.helm("upgrade", place.values | {"job": {"ttlSecondsAfterFinished": 1}})
        ended = place.namespace.wait(rayjob)
        assert ended["jobStatus"] == "SUCCEEDED", place.namespace.log(rayjob)
        assert (place.namespace.rayjobs(), ended["startTime"]) == ([rayjob], begun)  # the upgrade has left it alone
        assert local.wait(500) == 0
        yield place, rayjob, pq.read_table(next(folder.glob("answers/*/answers.parquet")))


def answering_here(folder: Path) -> "subprocess.Popen[bytes]":
    """A run on this machine, which ends beside the job on the cluster."""
    uris = {"corpus": CORPUS, "prompts": PROMPTS, "index": "index", "output": "answers"}
    sets = [part for key, value in uris.items() for part in ("--set", f"{key}.uri={value}")]
    command = [sys.executable, "-m", "ragjob", "run", "--quiet", "--set", "embed.dtype=float32", *sets]
    return subprocess.Popen(command, cwd=folder)


def test_an_installed_job_answers_as_a_local_run_does(installed: tuple[Place, str, pa.Table]) -> None:
    place, _, expected = installed
    (answers,) = published(place.bucket)
    assert answers.select(COMPARED) == expected.select(COMPARED)


def test_a_job_that_is_done_starts_again_neither_by_an_upgrade_nor_by_submit(
    installed: tuple[Place, str, pa.Table], tmp_path: Path
) -> None:
    place, rayjob, _ = installed
    place.namespace.helm("upgrade", place.values)
    submitted = submit(place.namespace, place.values, tmp_path)
    submitted.communicate(timeout=60)
    assert (submitted.returncode, place.namespace.rayjobs()) == (0, [rayjob])


@pytest.mark.soak
def test_submit_that_is_stopped_leaves_the_job_running_and_the_next_one_follows_it_to_its_end(
    installed: tuple[Place, str, pa.Table], tmp_path: Path
) -> None:
    place, first, _ = installed
    values = deepcopy(place.values)
    values["config"]["prompts"]["uri"] = place.bucket.write("others.jsonl", b'{"prompt": "Who is the driver?"}')

    left = submit(place.namespace, values, tmp_path)
    assert left.stdout
    left.stdout.readline()
    left.send_signal(signal.SIGINT)
    _, err = left.communicate(timeout=60)
    (rayjob,) = {*place.namespace.rayjobs()} - {first}
    assert left.returncode == 130
    assert f"is still running; to stop it: kubectl -n {place.namespace.name} delete rayjob {rayjob}" in err

    following = submit(place.namespace, values, tmp_path)
    out, err = following.communicate(timeout=500)
    assert (following.returncode, err) == (0, "")
    assert "1 prompts" in out
    assert {*place.namespace.rayjobs()} == {first, rayjob}
    assert sorted(table.num_rows for table in published(place.bucket)) == [1, 34]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_the_api_server_takes_every_object_of_an_example(example: Path, installed: tuple[Place, str, pa.Table]) -> None:
    namespace = installed[0].namespace
    rendered = namespace.run("helm", "template", "example", CHART, "--values", example)
    checked = namespace.run("kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-", given=rendered)
    assert "rayjob.ray.io/example-" in checked
    assert "statefulset.apps/example-chroma" in checked


@pytest.fixture
def desk(installed: tuple[Place, str, pa.Table], tmp_path: Path) -> Desk:
    """A desk with `job.yaml` for the installed job from here, and `values.yaml` with a larger volume for Chroma."""
    place, server = installed[0], installed[0].bucket.server
    s3 = {"s3": {"endpoint_url": server.endpoint, "region": server.region}}
    chroma = {"chroma": place.values["chroma"] | {"storage": "2Gi"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(place.values["config"] | s3))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(place.values | chroma))
    return Desk.of(tmp_path, place.namespace.name, **server.environment)


def test_an_installed_job_is_followed_and_cleaned_up_after_with_the_commands_of_the_docs(desk: Desk) -> None:
    follow, outcome, *_ = of_notes(desk.type(desk.find("helm get notes answers *")))
    assert "34 prompts, 0 errors" in desk.type(follow)
    assert desk.type(outcome).startswith("SUCCEEDED ")

    port = free_port()
    forward = desk.find("kubectl -n NAMESPACE port-forward *", **{" 8000": f" {port}:8000"})
    with listening(desk.start(forward), port):
        cleaned = desk.type(desk.find("ragjob clean --config *", **{":8000": f":{port}"}))
    assert "can be removed" in cleaned


def test_an_installed_job_is_run_again_stopped_and_removed_with_the_commands_of_the_docs(
    installed: tuple[Place, str, pa.Table], desk: Desk
) -> None:
    """The last test of this file: it leaves nothing of the release."""
    namespace = installed[0].namespace
    before = namespace.rayjobs()
    desk.type(desk.find("kubectl -n NAMESPACE edit pvc *"))
    desk.type(desk.find("kubectl -n NAMESPACE delete statefulset *"))
    desk.type(desk.find("helm upgrade answers *rerun=2"))
    (again,) = {*namespace.rayjobs()} - {*before}
    (chroma,) = namespace.get("statefulsets")
    assert chroma["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "2Gi"

    _, _, stop, *_ = of_notes(desk.type("helm get notes answers"))
    desk.type(stop)
    assert again not in namespace.rayjobs()

    desk.type(desk.find("helm uninstall answers *"))
    assert namespace.get("statefulsets") == []
    assert [claim["metadata"]["name"] for claim in namespace.get("pvc")] == ["data-answers-chroma-0"]
    desk.type(desk.find("kubectl -n NAMESPACE delete pvc *"))
    assert namespace.get("pvc") == []
