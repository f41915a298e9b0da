"""The commands of the docs that make a namespace ready and fill it without Helm."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.documented import filled, run_by
from tests.e2e.cluster import Namespace
from tests.e2e.desk import Desk

HERE = "tests/e2e/test_documented.py::"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk.of(tmp_path, f"ragjob-{uuid4().hex[:8]}")
    yield desk
    subprocess.run(["kubectl", "delete", "namespace", desk.namespace, "--wait=false"], check=True, capture_output=True)


def test_a_namespace_gets_a_job_and_loses_it_with_the_commands_of_the_docs(desk: Desk) -> None:
    desk.type(desk.find("kubectl create namespace NAMESPACE"))
    # It names a bucket that isn't there: the job is made, and stopped as the command says.
    said = desk.type(f"{desk.find('ragjob submit k8s/base/ragjob.yaml *')} --detach")
    namespace = Namespace(desk.namespace)
    (rayjob,) = namespace.rayjobs()
    assert said.startswith(f"RayJob {rayjob} in namespace {desk.namespace}; to stop it: ")
    desk.type(said.strip().partition("to stop it: ")[2])
    assert namespace.rayjobs() == []


@pytest.mark.parametrize(("command", "says"), run_by(f"{HERE}test_a_secret_is_made_with_a_command_of_the_docs"))
def test_a_secret_is_made_with_a_command_of_the_docs(command: str, says: str, desk: Desk) -> None:
    desk.type(f"kubectl create namespace {desk.namespace}")
    assert says in desk.type(filled(command, {"NAMESPACE": desk.namespace}))


def test_the_manifests_for_kubectl_are_objects_that_the_cluster_knows(desk: Desk) -> None:
    desk.type(f"kubectl create namespace {desk.namespace}")
    said = desk.type(f"{desk.find('kubectl apply -k k8s/base')} --dry-run=client")
    assert "rayjob.ray.io/ragjob-" in said
