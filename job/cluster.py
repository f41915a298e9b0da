"""The Ray cluster that the job runs on: what it has, start and stop."""

import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from job.config import Cluster
from job.errors import DependencyError
from job.orphans import ended_with_this_process

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
# Idle worker processes that a Ray on this machine keeps for each CPU: reads and writes share one, so there are
# more than the one for each that Ray would keep, and to start one anew takes seconds of a processor.
KEPT_WORKERS = 32

# Of cgroups version 2 and 1.
CGROUP_MEMORY = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Resources:
    """What a cluster has, or may grow to; where known, memory in bytes, and the GPUs of the node with most."""

    cpus: float
    gpus: float
    nodes: int
    memory: int | None
    node_gpus: float | None = None


def resources(cluster: Cluster) -> Resources:
    """What the settings say, and for what they leave open, what Ray sees.

    Asks the Ray that runs in this process, or the one that RAY_ADDRESS names. Without either, Ray will be started
    on this machine, with what this process may use of it.
    """
    stated = (cluster.cpus, cluster.gpus, cluster.nodes)
    if is_remote() or _is_joined():
        seen = Resources(0, 0, 1, None) if None not in stated else _ask_ray()
    else:
        present = _local_gpus()
        seen = Resources(_local_cpus(), present, 1, _local_memory(), present)
    cpus, gpus, nodes = (
        given if given is not None else found
        for given, found in zip(stated, (seen.cpus, seen.gpus, seen.nodes), strict=True)
    )
    return Resources(cpus, gpus, int(nodes), seen.memory, seen.node_gpus if cluster.gpus is None else None)


def is_remote() -> bool:
    """Tell whether RAY_ADDRESS names a cluster to join."""
    return bool(os.environ.get("RAY_ADDRESS")) and os.environ["RAY_ADDRESS"] != "local"


@contextmanager
def running(size: Resources) -> Iterator[Callable[[], object]]:
    """Ray, joined or started for the time of the block; one that runs in this process already is used as it is.

    Gives a function to call once the rest of the block doesn't need it: to stop Ray takes seconds, and begins then.
    """
    if _is_joined():
        yield lambda: None
        return
    with ThreadPoolExecutor(1) as aside, ExitStack() as started:
        mark = {} if is_remote() else started.enter_context(ended_with_this_process())
        _connect(None if is_remote() else size, mark)
        import ray

        started.callback(ray.shutdown)
        stop = cache(lambda: aside.submit(started.close))
        try:
            yield stop
        finally:
            stop().result()


def _is_joined() -> bool:
    """Tell whether this process has a Ray, without importing it."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _ask_ray() -> Resources:
    with running(Resources(0, 0, 1, None)):
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]
        workers = [node for node in alive if node["Resources"].get("CPU")]
        total = ray.cluster_resources()
    node_gpus = max(node["Resources"].get("GPU", 0) for node in alive)
    return Resources(total.get("CPU", 0), total.get("GPU", 0), len(workers), None, node_gpus)


def _connect(local: Resources | None, mark: dict[str, str]) -> None:
    kept = {"RAY_num_workers_soft_limit": f"{KEPT_WORKERS * local.cpus:.0f}"} if local else {}
    own = QUIET | kept
    os.environ.update({name: os.environ.get(name, value) for name, value in own.items()})
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if local:
        options |= {
            "address": "local",
            "num_cpus": max(1, int(local.cpus)),
            "num_gpus": int(local.gpus),
            "include_dashboard": False,
        }
    stop = signal.getsignal(signal.SIGTERM)
    os.environ.update(mark)
    # Takes seconds, in which the processes of a Ray on this machine start.
    loading = threading.Thread(target=importlib.import_module, args=("ray.data",))
    if local:
        loading.start()
    try:
        ray.init(**options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # ray.init has replaced the caller's handler
    except (ConnectionError, RuntimeError, TimeoutError, OSError, ValueError) as error:
        where = f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}" if not local else "a Ray on this machine"
        reason = " ".join(str(error).split())[:200]
        raise DependencyError(f"Ray: can't reach or start {where}: {reason}") from error
    except SystemExit as stopped:  # the handler for SIGTERM that Ray has meanwhile put in
        raise KeyboardInterrupt from stopped
    finally:
        if local:
            loading.join()  # it reads the environment
        for name in mark:
            del os.environ[name]


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
