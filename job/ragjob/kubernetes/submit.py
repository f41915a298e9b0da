"""Create a RayJob from manifests, follow it, and end as it ends. The only importer of kubernetes."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import yaml
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from ragjob.errors import DataError, DependencyError, RagjobError, SettingsError, Stopped, yaml_fault
from ragjob.kubernetes import troubles

MANAGER = "ragjob"  # the name that the API server keeps our fields under
LOOK_S = 3  # between two looks at the pods
REQUEST_S = 30
LOG_END_S = 10.0  # for the log's last lines, once the job has ended
UNREACHABLE_S = 60.0  # of no answer from Kubernetes, while following

Document = dict[str, Any]
Tell = Callable[[str], None]


def read_manifest(file: Path) -> list[Document]:
    """The documents of a YAML file. Raises `DataError` unless exactly one of them is a RayJob."""
    try:
        return _documents(file.read_text("utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: can't be read ({error}); name a manifest, or values with --chart") from error


def render(values: Path, chart: Path, release: str, namespace: str | None) -> list[Document]:
    """What `helm template` makes of `values`. Raises `SettingsError` with helm's own words."""
    command = ["helm", "template", release, str(chart), "--values", str(values)]
    command += ["--namespace", namespace] if namespace else []
    try:
        rendered = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DependencyError("--chart: helm isn't installed; install it, or render the chart elsewhere") from error
    if rendered.returncode:
        raise SettingsError(f"{values}: {rendered.stderr.strip().removeprefix('Error: ')}")
    return _documents(rendered.stdout, str(values))


def submit(documents: list[Document], namespace: str | None) -> "Submitted":
    """Apply the objects of a manifest, or none if the cluster doesn't know the kind of one.

    Raises `DependencyError` when Kubernetes refuses.
    """
    with _kubernetes():
        config.load_kube_config()
        api = client.ApiClient()
        context = config.list_kube_config_contexts()[1]["context"]
        default = namespace or context.get("namespace", "default")
        kinds = dynamic.DynamicClient(api)
        known = [
            kinds.resources.get(api_version=document["apiVersion"], kind=document["kind"]) for document in documents
        ]
        for resource, document in zip(known, documents, strict=True):
            where = document["metadata"].get("namespace", default)
            resource.server_side_apply(
                body=document,
                namespace=where,
                field_manager=MANAGER,
                force_conflicts=True,
                _request_timeout=REQUEST_S,
            )
    job = next(document["metadata"] for document in documents if document["kind"] == "RayJob")
    return Submitted(api, job["name"], job.get("namespace", default))


@dataclass
class Submitted:
    """A RayJob in the cluster."""

    api: client.ApiClient
    name: str
    namespace: str
    _logs: dict[str, Thread] = field(default_factory=dict)

    @property
    def stop(self) -> str:
        """The command that stops it."""
        return f"kubectl -n {self.namespace} delete rayjob {self.name}"

    def follow(self, tell: Tell) -> None:
        """Report what happens until the job has succeeded.

        Raises:
            RagjobError: of the class that the job's own exit code stands for.
            DependencyError: it can't start, or was lost.
            Stopped: it was stopped, or following it was stopped and it goes on running.
        """
        try:
            with _kubernetes():
                self._follow(tell)
        except KeyboardInterrupt as interrupt:
            raise Stopped(f"RayJob {self.name} is still running; to stop it: {self.stop}") from interrupt
        finally:
            for log in self._logs.values():
                log.join(LOG_END_S)

    def _follow(self, tell: Tell) -> None:
        patience, phase = troubles.Patience(), None
        for status in self._statuses():
            if status.get("jobDeploymentStatus") != phase:
                phase = status.get("jobDeploymentStatus")
                tell(f"RayJob {self.name}: {phase}")
            if status.get("jobStatus") == "SUCCEEDED":
                return
            if error := troubles.failure(self.name, status):
                raise error
            try:
                self._read_logs(tell)
                core = client.CoreV1Api(self.api)
                current_troubles = troubles.find(core, self.name, self.namespace, status)
                running = phase == "Running" and troubles.has_workers(core, self.namespace, status)
            except (HTTPError, ApiException) as error:
                if isinstance(error, ApiException) and error.status in (401, 403):
                    raise
                continue  # with the next look; how long Kubernetes may be away, `_statuses` minds
            patience.bear(current_troubles, running=running, tell=tell)

    def _statuses(self) -> Iterator[dict[str, Any]]:
        """The RayJob's status, at each of its changes and every few seconds."""
        api = client.CustomObjectsApi(self.api)
        rayjobs = ("ray.io", "v1", self.namespace, "rayjobs")
        heard = time.monotonic()
        while True:
            try:
                rayjob = api.get_namespaced_custom_object(*rayjobs, self.name, _request_timeout=REQUEST_S)
                yield rayjob.get("status", {})
                # Watched from there on: a failed attempt's status doesn't last, the next attempt's replaces it.
                changes = watch.Watch().stream(
                    api.list_namespaced_custom_object,
                    *rayjobs,
                    field_selector=f"metadata.name={self.name}",
                    resource_version=rayjob["metadata"]["resourceVersion"],
                    timeout_seconds=LOOK_S,
                    _request_timeout=REQUEST_S,
                )
                for change in changes:
                    yield change["object"].get("status", {})
                heard = time.monotonic()
            except (HTTPError, ApiException) as error:
                if isinstance(error, ApiException) and error.status == 404:
                    raise DependencyError(f"RayJob {self.name}: was deleted; submit it again to resume") from error
                if time.monotonic() - heard > UNREACHABLE_S:
                    raise
                time.sleep(LOOK_S)

    def _read_logs(self, tell: Tell) -> None:
        """Follow the log of each pod that prints the job's."""
        core = client.CoreV1Api(self.api)
        for pod in troubles.pods(core, self.namespace, f"job-name={self.name}"):
            name = pod["metadata"]["name"]
            if name not in self._logs and pod["status"].get("phase") != "Pending":
                self._logs[name] = Thread(target=self._read_log, args=(core, name, tell), daemon=True)
                self._logs[name].start()

    def _read_log(self, core: client.CoreV1Api, pod: str, tell: Tell) -> None:
        try:
            log = core.read_namespaced_pod_log(pod, self.namespace, follow=True, _preload_content=False)
            for line in log:
                tell(line.decode(errors="replace").rstrip())
        except (HTTPError, ApiException) as error:
            tell(f"log of pod {pod}: ended early ({type(error).__name__})")


def _documents(text: str, file: str) -> list[Document]:
    try:
        documents = [document for document in yaml.safe_load_all(text) if document]
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{file}: not YAML: {yaml_fault(error)}") from error
    jobs = [document for document in documents if isinstance(document, dict) and document.get("kind") == "RayJob"]
    if len(jobs) != 1:
        raise DataError(
            f"{file}: holds {len(jobs)} RayJobs but must hold exactly one; for values of the chart, add --chart"
        )
    return documents


@contextmanager
def _kubernetes() -> Iterator[None]:
    """Make one line of what Kubernetes answers, or doesn't."""
    try:
        yield
    except config.ConfigException as error:
        raise DependencyError(f"Kubernetes: no cluster is configured ({error}); set KUBECONFIG") from error
    except ResourceNotFoundError as error:
        raise DependencyError(f"Kubernetes: {error}; install KubeRay's operator, 1.6.2 or later") from error
    except ApiException as error:
        raise _refused(error) from error
    except HTTPError as error:
        raise DependencyError(f"Kubernetes: can't be reached: {error}; check KUBECONFIG") from error


def _refused(error: ApiException) -> RagjobError:
    match = re.search(r'"message":"((?:[^"\\]|\\.)*)"', str(error.body))
    said = match[1].replace('\\"', '"') if match else str(error.reason)
    if "field not declared in schema" in said:
        return DependencyError(f"Kubernetes: {said}: KubeRay's CRDs are too old; install 1.6.2 or later")
    may_not = error.status == 401 or "cannot" in said  # a quota answers with 403, too
    remedy = "; check the user that KUBECONFIG names, and its permissions" if may_not else ""
    return DependencyError(f"Kubernetes: {said}{remedy}")
