"""What a RayJob's status and pods say, in one line each."""

from typing import Any

import pytest

from ragjob import errors
from ragjob.kubernetes import troubles

MESSAGE = """Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):
progress
ragjob: embed.model: no such model; name another"""


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "answers-head"}, "status": status}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return pod(containerStatuses=[{"image": "r/x:1", "state": {"waiting": {"reason": reason, "message": message}}}])


def test_a_defect_of_a_job_ends_with_1_and_its_one_line() -> None:
    status = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed", "message": MESSAGE.format(code=1)}
    error = troubles.failure("a", status)
    assert type(error) is errors.RagjobError
    assert error.exit_code == 1
    assert "\n" not in str(error)


@pytest.mark.parametrize("kind", [kind for kind in errors.RagjobError.__subclasses__() if kind is not errors.Defect])
def test_a_failed_job_ends_as_its_own_exit_code_says(kind: type[errors.RagjobError]) -> None:
    status = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed", "message": MESSAGE.format(code=kind.exit_code)}
    error = troubles.failure("a", status)
    assert type(error) is kind
    assert str(error) == "embed.model: no such model; name another (RayJob a: to try again, give `rerun` a new value)"


def test_an_attempt_that_failed_says_when_another_follows() -> None:
    status = {"jobStatus": "FAILED", "jobDeploymentStatus": "Retrying", "message": MESSAGE.format(code=3)}
    assert str(troubles.failure("a", status)).endswith("another (RayJob a: KubeRay tries again, unless it is deleted)")


def test_a_killed_attempt_is_no_end_while_another_follows() -> None:
    status = {"jobStatus": "FAILED", "jobDeploymentStatus": "Retrying", "message": "the head died"}
    assert troubles.failure("a", status) is None


def test_the_last_attempts_end_is_told() -> None:
    status = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed", "reason": "AppFailed", "message": "the head died"}
    error = troubles.failure("a", status)
    assert isinstance(error, errors.DependencyError)
    assert str(error) == "RayJob a: AppFailed: the head died; to try again, give `rerun` a new value"


def test_a_stopped_job_is_told_from_a_finished_one() -> None:
    status = {"jobStatus": "STOPPED", "jobDeploymentStatus": "Complete"}
    assert isinstance(troubles.failure("a", status), errors.Stopped)


def test_a_running_job_has_not_failed() -> None:
    assert troubles.failure("a", {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}) is None


@pytest.mark.parametrize("reason", sorted(troubles.IMAGE))
def test_an_image_that_cannot_be_pulled_is_named(reason: str) -> None:
    assert troubles.of_pod(waiting(reason)) == (
        "pod answers-head: image r/x:1 can't be pulled; push it, or set another image"
    )


def test_a_missing_secret_is_named() -> None:
    assert troubles.of_pod(waiting("CreateContainerConfigError", 'secret "keys" not found')) == (
        'pod answers-head: secret "keys" not found: create what is missing, or remove it from the values'
    )


def test_a_pod_that_no_node_takes_says_what_lacks() -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none."
    unscheduled_pod = pod(conditions=[{"type": "PodScheduled", "status": "False", "message": message}])
    assert troubles.of_pod(unscheduled_pod) == (
        "pod answers-head: no node has a free GPU (0/1 nodes are available: 1 Insufficient nvidia.com/gpu): "
        "add one, or lower what `workers` and `head` request"
    )


def test_a_pod_that_runs_is_no_trouble() -> None:
    assert troubles.of_pod(pod(containerStatuses=[{"image": "x", "state": {"running": {}}}])) is None


def test_a_trouble_that_goes_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 20.0, 40.0, 60.0])
    monkeypatch.setattr(troubles.time, "monotonic", lambda: next(clock))
    patience, told = troubles.Patience(), list[str]()
    for pod_troubles in ({"pod": "no image"}, {}, {"pod": "no image"}, {"pod": "no image"}):
        patience.bear(pod_troubles, running=False, tell=told.append)
    assert told == []


def test_a_trouble_that_lasts_ends_a_job_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 31.0])
    monkeypatch.setattr(troubles.time, "monotonic", lambda: next(clock))
    patience = troubles.Patience()
    patience.bear({"pod": "no image"}, running=False, tell=print)
    with pytest.raises(errors.DependencyError, match="no image"):
        patience.bear({"pod": "no image"}, running=False, tell=print)


def test_a_trouble_of_a_job_that_runs_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 31.0, 62.0])
    monkeypatch.setattr(troubles.time, "monotonic", lambda: next(clock))
    patience, told = troubles.Patience(), list[str]()
    for _ in range(3):
        patience.bear({"pod": "no GPU"}, running=True, tell=told.append)
    assert told == ["no GPU"]
