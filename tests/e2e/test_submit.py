"""`ragjob submit` on a cluster: it ends as the job ends, and says at once what keeps it from starting."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import CHART, Namespace, wait_until

TELLS_WITHIN_S = 60


def start(namespace: Namespace, values: dict[str, Any], folder: Path) -> "subprocess.Popen[str]":
    file = folder / "values.yaml"
    file.write_text(json.dumps(values))
    command = [sys.executable, "-m", "job", "submit", file, "--chart", CHART, "--namespace", namespace.name]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_submit_follows_a_job_to_its_end_and_finds_it_done_the_next_time(
    namespace: Namespace, values: dict[str, Any], tmp_path: Path
) -> None:
    first = start(namespace, values, tmp_path)
    out, err = first.communicate(timeout=500)
    assert (first.returncode, err) == (0, "")
    assert "23 prompts" in out

    second = start(namespace, values, tmp_path)
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert len(namespace.rayjobs()) == 1


@pytest.mark.parametrize(
    ("section", "change", "code", "says"),
    [
        ("output", {"uri": "s3://no-such-bucket/answers"}, 3, "no-such-bucket"),
        pytest.param("embed", {"model": "/no/model"}, 4, "embed.model: /no/model", marks=pytest.mark.soak),
    ],
    ids=["bucket", "model"],
)
def test_submit_ends_with_the_jobs_own_exit_code_and_line(
    section: str,
    change: dict[str, str],
    code: int,
    says: str,
    namespace: Namespace,
    values: dict[str, Any],
    tmp_path: Path,
) -> None:
    values["config"][section] = change
    submitted = start(namespace, values, tmp_path)
    _, err = submitted.communicate(timeout=300)
    assert submitted.returncode == code
    assert says in err
    assert err.count("\n") == 1


def change_image(values: dict[str, Any]) -> None:
    values["image"] = {"repository": "localhost/absent", "tag": "x"}


def change_secret(values: dict[str, Any]) -> None:
    values["secrets"] = ["absent"]


def change_gpus(values: dict[str, Any]) -> None:
    values["workers"][0]["gpus"] = 99


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_image, "image localhost/absent:x can't be pulled"),
        (change_secret, 'secret "absent" not found'),
        (change_gpus, "no node has a free GPU"),
    ],
    ids=["image", "secret", "gpus"],
)
def test_submit_says_what_keeps_a_job_from_starting(
    change: Any, says: str, namespace: Namespace, values: dict[str, Any], tmp_path: Path
) -> None:
    change(values)
    began = time.monotonic()
    submitted = start(namespace, values, tmp_path)
    _, err = submitted.communicate(timeout=120)
    assert submitted.returncode == 3
    assert says in err
    assert err.count("\n") == 1
    assert time.monotonic() - began < TELLS_WITHIN_S


def test_a_quota_that_refuses_the_pods_is_told(namespace: Namespace, values: dict[str, Any], tmp_path: Path) -> None:
    namespace.run("kubectl", "create", "quota", "none", "--hard=pods=0")
    submitted = start(namespace, values, tmp_path)
    _, err = submitted.communicate(timeout=120)
    assert submitted.returncode == 3
    assert "exceeded quota" in err


def test_ctrl_c_leaves_the_job_running_and_says_how_to_stop_it(
    namespace: Namespace, values: dict[str, Any], tmp_path: Path
) -> None:
    submitted = start(namespace, values, tmp_path)
    wait_until(lambda: namespace.get("rayjobs"), 60)
    time.sleep(5)
    submitted.send_signal(signal.SIGINT)
    _, err = submitted.communicate(timeout=60)
    (rayjob,) = namespace.rayjobs()
    assert submitted.returncode == 130
    assert f"goes on running; to stop it: kubectl -n {namespace.name} delete rayjob {rayjob}" in err
