"""`ray job submit` to a Ray cluster that is there already."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace, standing, wait_until
from tests.e2e.conftest import forwarded
from tests.e2e.test_kill import PROMPTS, check_answers, many, staged  # noqa: F401 - a fixture
from tests.services import Bucket

ENTRYPOINT = ["ragjob", "run", "--config", "/etc/ragjob/job.yaml"]


class Ray:
    """The `ray job` command, with the cluster's address and token."""

    def __init__(self, port: int, token: str) -> None:
        self._env = os.environ | {
            "RAY_ADDRESS": f"http://127.0.0.1:{port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
        }

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(Path(sys.executable).with_name("ray")), "job", *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture
def ray(namespace: Namespace, many: dict[str, Any]) -> Iterator[Ray]:  # noqa: F811
    head = standing(namespace, many)
    found = namespace.run("kubectl", "get", "secret", "standing", "-o", "jsonpath={.data.auth_token}")
    with forwarded(namespace, f"pod/{head}", 8265) as port:
        yield Ray(port, base64.b64decode(found).decode())


def test_a_stopped_job_goes_on_when_it_is_submitted_again(ray: Ray, bucket: Bucket) -> None:
    ray("submit", "--no-wait", "--submission-id", "first", "--", *ENTRYPOINT)
    wait_until(lambda: len(staged(bucket)) >= 3, 400)
    assert "was stopped" in ray("stop", "first").stdout
    kept = len(staged(bucket))

    again = ray("submit", "--submission-id", "second", "--", *ENTRYPOINT)
    assert again.returncode == 0, again.stdout
    assert kept >= 3
    assert f"{PROMPTS} prompts, 0 errors" in again.stdout
    assert "kept from an earlier attempt" in again.stdout
    check_answers(bucket)
