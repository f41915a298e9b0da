"""The Ray cluster that the job runs on: what it has, start and stop."""

import gc
import importlib
import logging
import os
import secrets
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from ragjob.config import Cluster, NodeGroup
from ragjob.errors import DependencyError, SettingsError
from ragjob.models.capacity import Group, Resources
from ragjob.runtime.orphans import Guarded, ended_with_this_process
from ragjob.runtime.places import GROUP_LABEL, bundle
from ragjob.runtime.reach import require_answer
from ragjob.settings import strip_variables
from ragjob.stages.rows import DEFECTS

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers of `uv run ragjob` would run in a copy of the current folder
}
# Variables with a path that our libraries read in workers, too. Those have another current folder.
PATHS = (
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_TOKEN_PATH",
    "HF_XET_CACHE",
    "RAY_TMPDIR",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TORCH_HOME",
    "VLLM_CACHE_ROOT",
    "XDG_CACHE_HOME",
)
# Idle worker processes that a Ray on this machine keeps for each CPU: reads and writes share one, so there are
# more than the one for each that Ray would keep, and to start one anew takes seconds of a processor.
KEPT_WORKERS = 32

MEMORY_STEP = 10**8  # bytes

# Of cgroups version 2 and 1.
CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def resources(cluster: Cluster) -> Resources:
    """The groups of nodes that the settings name, or else what Ray sees.

    Asks the Ray that runs in this process, or the one that RAY_ADDRESS names. Without either, Ray will be started
    on this machine, with what this process may use of it. Raises `SettingsError` when no node is named or seen.
    """
    if cluster.groups:
        return Resources(tuple(map(_stated, cluster.groups)))
    stated = {name: getattr(cluster, name) for name in ("cpus", "gpus", "nodes")}
    if not is_remote() and not _is_joined():
        seen = Resources((Group("", _local_cpus(), _local_gpus(), _local_memory()),))
    else:
        seen = _ask_ray() if None in stated.values() else Resources(())
    if given := {name: value for name, value in stated.items() if value is not None}:
        sums = {"cpus": seen.cpus, "gpus": seen.gpus, "nodes": seen.nodes or 1} | given
        seen = Resources.equal(**sums, memory=min((group.memory or 0 for group in seen.groups), default=0) or None)
    if not seen.cpus:
        example = "[{name: cpu, cpus: 8, max: 4}]"
        raise SettingsError(
            f"cluster.groups: no node of the Ray cluster has CPUs yet; say which nodes may start, for example {example}"
        )
    return seen


def _stated(group: NodeGroup) -> Group:
    memory = int(group.memory_gb * 1e9) if group.memory_gb else None
    return Group(group.name, group.cpus, group.gpus, memory, group.min, group.max)


def is_remote() -> bool:
    """Return whether RAY_ADDRESS names a cluster to join."""
    strip_variables("RAY_")
    return bool(os.environ.get("RAY_ADDRESS")) and os.environ["RAY_ADDRESS"] != "local"


@contextmanager
def running(size: Resources) -> Iterator[Callable[[], object]]:
    """Ray, joined or started for the time of the block; one that already runs in this process is used as it is.

    Yields a function to call once the rest of the block doesn't need Ray: stopping takes seconds, and begins then.
    """
    if _is_joined():
        yield lambda: None
        return
    with ThreadPoolExecutor(1) as aside, ExitStack() as started:
        _connect(None if is_remote() else size, started.enter_context(ended_with_this_process()))
        import ray

        started.callback(ray.shutdown)
        if wanted := [group for group in size.groups for _ in range(group.min)]:
            _ask_for(wanted)
            started.callback(_withdraw)

        @cache
        def stop() -> Future[None]:
            gc.collect()  # Ray ends the process, without a word, when a thread frees objects of its while it shuts down
            return aside.submit(started.close)

        try:
            yield stop
        finally:
            stop().result()


def _ask_for(nodes: list[Group]) -> None:
    """Ask Ray's autoscaler, where one runs, for these nodes at least, instead of those that were asked for before."""
    from ray.autoscaler.sdk import request_resources

    bundles = [bundle(node.cpus, node.gpus) for node in nodes]
    request_resources(bundles=bundles, bundle_label_selectors=[{GROUP_LABEL: node.name} for node in nodes])


def _withdraw() -> None:
    with suppress(Exception):  # a Ray that is gone needs to be told nothing
        _ask_for([])


def _is_joined() -> bool:
    """Return whether this process has a Ray, without importing it."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _ask_ray() -> Resources:
    with running(Resources(())):
        import ray

        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return Resources(tuple(replace(group, max=count) for group, count in Counter(map(_seen, nodes)).items()))


def _seen(node: dict[str, Any]) -> Group:
    """The group of a node of Ray's. Nodes that are alike differ by a few bytes of memory."""
    has = node["Resources"]
    memory = int(has.get("memory", 0) // MEMORY_STEP) * MEMORY_STEP
    return Group(node["Labels"].get(GROUP_LABEL, ""), has["CPU"], int(has.get("GPU", 0)), memory or None)


def _connect(local: Resources | None, guarded: Guarded) -> None:
    _set_environment(local)
    if not local:
        require_answer(os.environ["RAY_ADDRESS"])
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if local:
        options |= {
            "address": "local",
            "num_cpus": max(1, int(local.cpus)),
            "num_gpus": int(local.gpus),
            "include_dashboard": False,
            "_temp_dir": str(guarded.folder / "ray"),
        }
    workdir = guarded.folder / "work"
    stop = signal.getsignal(signal.SIGTERM)
    try:
        workdir.mkdir()
        # Workers import from the folder that is the current one here: in a user's, a file may bear a library's name.
        with chdir(workdir), _variables(guarded.mark), _starting(guarded.folder) if local else nullcontext():
            ray.init(**options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # ray.init has replaced the caller's handler
    except DEFECTS:
        raise
    except Exception as error:  # Ray raises nothing more special when its processes take too long to start
        where = f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}" if not local else "a Ray on this machine"
        remedy = (
            "free memory and disk space, or run the job again" if local else "check that its Ray is the same version"
        )
        reason = " ".join(str(error).split())[:200]
        raise DependencyError(f"Ray: can't reach or start {where}: {reason}; {remedy}") from error
    except SystemExit as stopped:  # the handler for SIGTERM that Ray has meanwhile put in
        raise KeyboardInterrupt from stopped


def _set_environment(local: Resources | None) -> None:
    """Set what Ray reads of the environment, unless the user has, and make paths in it absolute."""
    kept = {"RAY_num_workers_soft_limit": f"{KEPT_WORKERS * local.cpus:.0f}"} if local else {}
    if local and "ray" not in sys.modules:  # a process keeps the mode that it had when it imported Ray
        os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.update({name: os.environ.get(name, value) for name, value in (QUIET | kept).items()})
    paths = {name: os.environ.get(name, "") for name in PATHS}
    # "~" and "$HOME" are for the library that reads them.
    relative = {name: path for name, path in paths.items() if path and not path.startswith(("/", "~", "$"))}
    os.environ.update({name: str(Path(path).absolute()) for name, path in relative.items()})


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that start during the block."""
    before = {name: os.environ.pop(name, None) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            os.environ.update({name: value} if value is not None else {})


@contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """Start a Ray on this machine in the block: one that other machines can't reach, nor other users."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(_token())
    with _variables({"RAY_AUTH_TOKEN_PATH": str(token)}), _on_loopback(), _loading_ray_data():
        yield


@cache
def _token() -> str:
    """The token of every Ray that this process starts: Ray reads it from its file once a process."""
    return secrets.token_hex()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a Ray that starts in the block listen on loopback alone.

    It does if it is told that there won't be a cluster, which it otherwise infers from the operating system; it
    replaces 127.0.0.1 by the machine's own address when that is passed to `ray.init`.
    """
    from ray._private import ray_constants

    usual = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = usual


@contextmanager
def _loading_ray_data() -> Iterator[None]:
    """Import Ray Data during the block: it takes seconds, in which the processes of a Ray on this machine start."""
    loading = threading.Thread(target=importlib.import_module, args=("ray.data",))
    loading.start()
    try:
        yield
    finally:
        loading.join()  # it reads the environment


def _local_cpus() -> int:
    """CPUs that this process may use: its affinity and its container's quota, rounded up."""
    from joblib import cpu_count

    return int(cpu_count())


def _local_memory() -> int:
    """Bytes that this process may use: the machine's, or its container's limit."""
    total = int(psutil.virtual_memory().total)
    for limit in CGROUP_MEMORY:
        with suppress(OSError, ValueError):  # another version of cgroups, or "max"
            total = min(total, int(limit.read_text()))
    return total


def _local_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1", "NoDevFiles")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
