"""Why a RayJob doesn't start, or how it failed, in one line each."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ragjob.errors import Defect, DependencyError, RagjobError, Stopped

PATIENCE_S = 30.0  # for what may mend itself: images are tried again, pods end and make room
REQUEST_S = 30
IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
SCALING = {"TriggeredScaleUp", "Nominated"}  # what node autoscalers say of a pod they make a node for
RAY = "ray.io/cluster"
AGAIN = "to try again, give `rerun` a new value"
REPEATED = "(combined from similar events): "

Pod = dict[str, Any]


def failure(name: str, status: dict[str, Any]) -> RagjobError | None:
    """The error that a RayJob's status reports, if any: the job's own if its exit code is known.

    An attempt that ended without an exit code, for example by a kill, counts only if no other follows.
    """
    message = str(status.get("message", ""))
    if status.get("jobStatus") == "STOPPED":
        return Stopped(f"RayJob {name} was stopped, and finished work is kept; give `rerun` a new value to resume")
    code = re.search(r"exit code (\d+)", message)
    if status.get("jobStatus") == "FAILED" and code:
        errors = {kind.exit_code: kind for kind in RagjobError.__subclasses__() if kind is not Defect}
        ended = status.get("jobDeploymentStatus") == "Failed"
        next_step = AGAIN if ended else "KubeRay tries again, unless it is deleted"
        said = _last_words(message) or message
        return errors.get(int(code[1]), RagjobError)(f"{said} (RayJob {name}: {next_step})")
    if status.get("jobDeploymentStatus") in ("Failed", "ValidationFailed"):
        reason = status.get("reason", "failed")
        return DependencyError(f"RayJob {name}: {reason}: {message or 'no message'}; {AGAIN}")
    return None


def find(core: Any, name: str, namespace: str, status: dict[str, Any]) -> dict[str, str]:
    """What keeps a RayJob from running, by object: found in its pods, and in warnings."""
    if not status.get("jobDeploymentStatus"):
        return {name: f"RayJob {name}: no operator has picked it up; start KubeRay's operator, 1.6.2 or later"}
    cluster = status.get("rayClusterName", "")
    selectors = [f"job-name={name}", f"{RAY}={cluster}"] if cluster else [f"job-name={name}"]
    job_pods = [pod for selector in selectors for pod in pods(core, namespace, selector)]
    troubles = {pod["metadata"]["name"]: of_pod(pod) for pod in job_pods if not _scaling(core, namespace, pod)}
    return {pod: trouble for pod, trouble in troubles.items() if trouble} | _warnings(core, namespace, {name, cluster})


def has_workers(core: Any, namespace: str, status: dict[str, Any]) -> bool:
    """Return whether a worker of the RayJob's cluster runs. A job that runs without one has asked for its first."""
    workers = pods(core, namespace, f"{RAY}={status.get('rayClusterName', '')},ray.io/node-type=worker")
    return any(pod["status"].get("phase") == "Running" for pod in workers)


def pods(core: Any, namespace: str, selector: str) -> list[Pod]:
    """The pods with these labels, as Kubernetes writes them."""
    pod_list = core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=REQUEST_S)
    items: list[Pod] = core.api_client.sanitize_for_serialization(pod_list)["items"]
    return items


def of_pod(pod: Pod) -> str | None:
    """What keeps a pod from starting, and the remedy."""
    name, status = pod["metadata"]["name"], pod["status"]
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        waiting = container["state"].get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in IMAGE:
            return f"pod {name}: image {container['image']} can't be pulled; push it, or set another image"
        if reason in ("CreateContainerConfigError", "CreateContainerError"):
            return f"pod {name}: {message}: create what is missing, or remove it from the values"
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = condition.get("message", "").split(". ")[0]
            lacks = "has a free GPU" if "gpu" in message else "takes it"
            return f"pod {name}: no node {lacks} ({message}): add one, or lower what `workers` and `head` request"
    return None


@dataclass
class Patience:
    """Bears troubles for some seconds, and raises the first that doesn't go away."""

    _since: dict[str, float] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def bear(self, troubles: dict[str, str], running: bool, tell: Callable[[str], None]) -> None:
        """Raise `DependencyError` for a trouble that lasts; if the job is `running` anyway, only report it."""
        now = time.monotonic()
        self._since = {concerned: self._since.get(concerned, now) for concerned in troubles}
        for concerned in {one for one, since in self._since.items() if now - since >= PATIENCE_S} - self._told:
            if not running:
                raise DependencyError(troubles[concerned])
            tell(troubles[concerned])
            self._told.add(concerned)


def _last_words(message: str) -> str | None:
    lines = [line for line in message.splitlines() if line.startswith("ragjob: ")]
    return lines[-1].removeprefix("ragjob: ") if lines else None


def _scaling(core: Any, namespace: str, pod: Pod) -> bool:
    return pod["status"].get("phase") == "Pending" and any(
        event.reason in SCALING for event in _events(core, namespace, pod["metadata"]["name"], "Normal")
    )


def _warnings(core: Any, namespace: str, names: set[str]) -> dict[str, str]:
    """What was refused lately: a pod above the quota, or against the namespace's security level."""
    return {
        name: f"{event.involved_object.kind} {name}: {event.message.removeprefix(REPEATED)}; raise what the namespace "
        "allows, or lower what the values ask for"
        for name in names - {""}
        for event in _events(core, namespace, name, "Warning")
        if "Failed" in event.reason and _age_s(event) < PATIENCE_S
    }


def _events(core: Any, namespace: str, name: str, kind: str) -> list[Any]:
    selector = f"involvedObject.name={name},type={kind}"
    event_list = core.list_namespaced_event(namespace, field_selector=selector, _request_timeout=REQUEST_S)
    items: list[Any] = event_list.items
    return items


def _age_s(event: Any) -> float:
    when = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return float((datetime.now(when.tzinfo) - when).total_seconds())
