"""`ray job` on a standing cluster."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.cluster import Namespace
from tests.e2e.conftest import forwarded

ENTRYPOINT = ["ragjob", "run", "--config", "/etc/ragjob/job.yaml"]


class RayJob:
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


@contextmanager
def reached(namespace: Namespace, head: str) -> Iterator[RayJob]:
    """Reach the cluster with this head through a forwarded port, for the time of the block."""
    encoded_token = namespace.run("kubectl", "get", "secret", "standing", "-o", "jsonpath={.data.auth_token}")
    with forwarded(namespace, f"pod/{head}", 8265) as port:
        yield RayJob(port, base64.b64decode(encoded_token).decode())
