"""What workers wrote to stderr before they died: native code says there why it ends its process."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

LINES = 40  # of a process: the dump of faulthandler alone takes about thirty
LINE_CHARS = 300  # the dump ends with a line that names hundreds of modules
PROCESSES = 4  # of a node, those that wrote last
TIMEOUT_S = 20.0  # for all nodes together
_HEAD_BYTES = 4 * 1024
_TAIL_BYTES = 64 * 1024
_MARKS = (":job_id:", ":actor_name:", ":task_name:")  # begin the lines that Ray writes for itself


@dataclass(frozen=True)
class LastLines:
    """The end of what the process `pid` on the node with address `node` wrote to stderr."""

    node: str
    pid: int
    stderr: str


def last_lines() -> list[LastLines]:
    """The last lines of this job's dead workers, on all nodes that answer in time; per node, the last writer last.

    Each node's files are read there, so no output is forwarded while the job runs, and it works on any cluster.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    job = ray.get_runtime_context().get_job_id()
    read = ray.remote(num_cpus=0, max_retries=0)(_of_this_node)
    nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    tasks = [read.options(scheduling_strategy=node).remote(job) for node in nodes]
    answered, _ = ray.wait(tasks, num_returns=len(tasks), timeout=TIMEOUT_S)
    lines: list[LastLines] = []
    for task in answered:
        with suppress(ray.exceptions.RayError):  # the node went meanwhile
            lines += ray.get(task)
    return lines


def _of_this_node(job: str) -> list[LastLines]:
    import ray

    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    # Ray moves some to a folder below once there are many.
    dead = [file for file in folder.rglob("worker-*.err") if _is_dead(_pid(file)) and _is_of(file, job)]
    address = ray.util.get_node_ip_address()
    lines = [LastLines(address, _pid(file), text) for file in sorted(dead, key=_written) if (text := _end_of(file))]
    return lines[-PROCESSES:]


def _pid(file: Path) -> int:
    return int(file.stem.rpartition("-")[2])


def _is_dead(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _is_of(file: Path, job: str) -> bool:
    """Return whether a worker is of this job. Names don't say: Ray starts some before it knows whose they will be."""
    with file.open("rb") as content:
        return f":job_id:{job}\n".encode() in content.read(_HEAD_BYTES)


def _written(file: Path) -> float:
    return file.stat().st_mtime


def _end_of(file: Path) -> str:
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        lines = content.read().decode("utf-8", "replace").splitlines()
    kept = [line[:LINE_CHARS] for line in lines if line.strip() and not line.startswith(_MARKS)]
    return "\n".join(kept[-LINES:])
