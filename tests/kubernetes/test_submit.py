"""What `ragjob submit` says when it can't begin; tests/e2e has it on a real cluster."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

RAYJOB = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "answers"}, "spec": {}}


def submit(*arguments: object, **variables: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "ragjob", "submit", *map(str, arguments)]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **variables}
    )
    return ran.returncode, ran.stderr


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(RAYJOB))
    return file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("config: {}", "holds 0 RayJobs but must hold exactly one; for values of the chart, add --chart"),
        (yaml.safe_dump_all([RAYJOB, RAYJOB]), "holds 2 RayJobs but must hold exactly one"),
        ("a: [", "not YAML"),
    ],
)
def test_a_manifest_without_one_rayjob_is_refused(text: str, says: str, manifest: Path) -> None:
    manifest.write_text(text)
    code, line = submit(manifest)
    assert code == 4
    assert line.startswith(f"ragjob: {manifest}: {says}")


def test_a_manifest_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code, line = submit(tmp_path / "none.yaml")
    assert code == 4
    assert "none.yaml: can't be read" in line


def test_values_need_helm(manifest: Path) -> None:
    code, line = submit(manifest, "--chart", "helm/ragjob", PATH="/nowhere")
    assert (code, line) == (3, "ragjob: --chart: helm isn't installed; install it, or render the chart elsewhere\n")


def test_a_cluster_that_is_not_configured_is_named(manifest: Path) -> None:
    code, line = submit(manifest, KUBECONFIG="/dev/null")
    assert code == 3
    assert line.startswith("ragjob: Kubernetes: no cluster is configured")


def test_a_cluster_that_cannot_be_reached_is_named(manifest: Path, tmp_path: Path) -> None:
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    code, line = submit(manifest, KUBECONFIG=str(file))
    assert code == 3
    assert line.startswith("ragjob: Kubernetes: can't be reached")
