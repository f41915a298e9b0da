"""What the cluster has, and how it is joined or started; by a fake Ray where the real one can't be made to fail."""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from ragjob.config import Cluster
from ragjob.errors import DependencyError, SettingsError
from ragjob.models.capacity import Group, Resources
from ragjob.runtime import cluster
from ragjob.runtime.cluster import resources, running

ALL = Cluster(cpus=8, gpus=2, nodes=4)
TWO_CPUS = Resources.equal(2)


class FakeRay(SimpleNamespace):
    """A Ray whose `init` does as told, and that knows how it was started and stopped."""

    def __init__(self, on_init: Callable[[], object] = lambda: None) -> None:
        super().__init__(options={}, environment={}, folder=Path(), stopped=False)
        self._on_init = on_init

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.options, self.environment, self.folder = options, dict(os.environ), Path.cwd()
        self.files = list(self.folder.iterdir())
        self.clusters = constants().ENABLE_RAY_CLUSTER
        self._on_init()

    def shutdown(self) -> None:
        self.stopped = True


def constants() -> Any:
    return sys.modules["ray._private"].ray_constants


def use(monkeypatch: pytest.MonkeyPatch, on_init: Callable[[], object] = lambda: None) -> FakeRay:
    ray = FakeRay(on_init)
    monkeypatch.setattr(cluster, "require_answer", lambda _: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    private = SimpleNamespace(ray_constants=SimpleNamespace(ENABLE_RAY_CLUSTER=True))
    monkeypatch.setitem(sys.modules, "ray._private", private)
    monkeypatch.setitem(sys.modules, "ray.data", SimpleNamespace())
    return ray


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def start() -> None:
    with running(TWO_CPUS):
        pass


# What this machine has


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_what_the_settings_say_goes_before_what_is_seen() -> None:
    size = resources(Cluster(cpus=8, nodes=4))
    assert (size.cpus, size.nodes) == (8, 4)
    assert resources(ALL).gpus == 2


def test_a_machine_has_the_cpus_that_this_process_may_use() -> None:
    mask = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mask)})
    try:
        assert resources(Cluster()).cpus == 1
    finally:
        os.sched_setaffinity(0, mask)


@pytest.mark.parametrize(
    ("contents", "limit"),
    [
        (["5000000\n", None], 5_000_000),
        ([None, "5000000\n"], 5_000_000),
        (["max\n", None], None),
        ([None, None], None),
        ([None, "9223372036854771712\n"], None),
    ],
    ids=["version 2", "version 1", "no limit", "no cgroups", "no limit in version 1"],
)
def test_memory_is_what_the_container_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, contents: list[str | None], limit: int | None
) -> None:
    files = (tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes")
    written = [file.write_text(content) for file, content in zip(files, contents, strict=True) if content]
    monkeypatch.setattr(cluster, "CGROUP_MEMORY", files)
    assert len(written) <= 1
    assert resources(Cluster()).groups[0].memory == (limit or psutil.virtual_memory().total)


@pytest.mark.parametrize(
    ("visible", "gpus"), [("0,1", 2), ("GPU-8932f937", 1), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("0, 2", 2)]
)
def test_gpus_are_those_that_this_process_may_see(monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert resources(Cluster()).gpus == gpus


@pytest.mark.parametrize(
    ("address", "remote"), [("10.0.0.1:6379", True), ("auto", True), ("local", False), ("", False)]
)
def test_a_cluster_to_join_is_named_by_ray_address(monkeypatch: pytest.MonkeyPatch, address: str, remote: bool) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster.is_remote() == remote


def test_a_cluster_that_the_settings_describe_isnt_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    use(monkeypatch, raising(AssertionError()))
    assert resources(ALL) == Resources.equal(8, 2, 4)
    named = Cluster(groups=[{"name": "gpu", "cpus": 8, "gpus": 1, "memory_gb": 32, "min": 1, "max": 3}])
    assert resources(named) == Resources((Group("gpu", 8, 1, 32 * 10**9, 1, 3),))


def node(cpus: float = 0, gpus: float = 0, group: str = "", memory: int = 0, *, alive: bool = True) -> dict[str, Any]:
    """A node, as `ray.nodes` tells of it."""
    has = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus), ("memory", memory)) if amount}
    return {"Alive": alive, "Resources": has, "Labels": {"ray.io/node-group": group} if group else {}}


def test_nodes_that_are_alike_are_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    small, large = (lambda memory: node(2, memory=memory, group="cpu")), node(8, 4, "gpu")
    seen = [node(), small(6_400_000_001), large, small(6_400_100_000), node(64, alive=False)]
    use(monkeypatch).nodes = lambda: seen
    assert resources(Cluster()).groups == (Group("cpu", 2, 0, 6_400_000_000, max=2), Group("gpu", 8, 4))
    assert resources(Cluster(nodes=5)).nodes == 5


def test_a_cluster_that_is_scaled_to_zero_has_to_be_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    use(monkeypatch).nodes = lambda: [node()]
    with pytest.raises(
        SettingsError, match=r"^cluster.groups: no node of the Ray cluster has CPUs yet; say which nodes may"
    ):
        resources(Cluster())
    assert resources(Cluster(cpus=8)).cpus == 8


# Starting and joining


def test_a_ray_on_this_machine_has_the_size_that_was_planned_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch)
    start()
    assert (ray.options["address"], ray.options["num_cpus"], ray.options["num_gpus"]) == ("local", 2, 0)
    assert ray.stopped


def test_what_is_set_for_a_ray_while_it_starts_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/mine")
    ray = use(monkeypatch)
    start()
    assert (ray.clusters, constants().ENABLE_RAY_CLUSTER) == (False, True)
    assert ray.environment["RAY_AUTH_TOKEN_PATH"] != os.environ["RAY_AUTH_TOKEN_PATH"] == "/mine"


# A program that has one local Ray after another, and tells what others on the machine could get at.
LOCAL_RAY = """
import json, os, stat, sys
import psutil
from ragjob.models.capacity import Resources
from ragjob.runtime.cluster import running

def look():
    import ray
    folder = ray._private.worker._global_node.get_session_dir_path()
    job = psutil.Process()
    processes = [job, *job.children(recursive=True)]
    sockets = [s.laddr.ip for p in processes for s in p.net_connections("inet") if s.status == psutil.CONN_LISTEN]
    paths = [os.path.join(root, name) for root, _, names in os.walk(os.environ["RAY_TMPDIR"]) for name in names]
    return {
        "addresses": sorted(set(sockets)),
        "works": ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid(),
        "below": os.path.relpath(folder, os.environ["RAY_TMPDIR"]).split("/")[1:2],
        "rights": [oct(stat.S_IMODE(os.stat(e.path).st_mode)) for e in os.scandir(os.environ["RAY_TMPDIR"])],
        "tokens": [oct(stat.S_IMODE(os.stat(path).st_mode)) for path in paths if path.endswith("token")],
        "mode": str(ray._raylet.get_authentication_mode() == ray._raylet.AuthenticationMode.TOKEN),
    }

for _ in range(2):
    with running(Resources.equal(1)):
        print(json.dumps(look()), flush=True)
"""


@pytest.mark.ray
def test_a_ray_on_this_machine_is_for_this_user_alone_and_leaves_nothing(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="ray-") as folder:  # a short path, for the names of Ray's sockets
        home = {"HOME": str(tmp_path), "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"}
        ended = subprocess.run(
            [sys.executable, "-c", LOCAL_RAY], env=os.environ | home, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        first, second = map(json.loads, ended.stdout.splitlines())
        assert list(Path(folder).iterdir()) == []
    loopback = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert set(first["addresses"]) - loopback == set(second["addresses"]) - loopback == set()
    seen = {"works": True, "below": ["ray"], "rights": ["0o700"], "tokens": ["0o600"], "mode": "True"}
    assert [{name: told[name] for name in seen} for told in (first, second)] == [seen, seen]
    assert list(tmp_path.iterdir()) == []


def test_a_ray_is_ended_also_when_the_job_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch)
    with pytest.raises(DependencyError), running(TWO_CPUS):
        raise DependencyError("S3: gone")
    assert ray.stopped


def test_a_ray_is_stopped_once_while_what_needs_none_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch)
    stopped = threading.Semaphore(0)
    ray.shutdown = stopped.release
    with running(TWO_CPUS) as stop:
        stop()
        assert stopped.acquire(timeout=10)
        stop()
    assert not stopped.acquire(blocking=False)


class Cycle:
    """An object that only a collection of garbage frees, as Ray Data's are."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_of_rays_is_left_to_free_while_it_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch)
    garbage, left = weakref.ref(Cycle()), []
    ray.shutdown = lambda: left.append(garbage())
    start()
    assert left == [None]


def test_a_cluster_is_joined_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ray = use(monkeypatch)
    start()
    assert {"address", "num_cpus", "num_gpus"} & ray.options.keys() == set()
    assert ray.stopped


def test_ray_tells_nobody_of_its_use_unless_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch)
    start()
    assert ray.environment["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    start()
    assert ray.environment["RAY_USAGE_STATS_ENABLED"] == "1"


@pytest.mark.parametrize("address", ["", "10.0.0.1:6379"], ids=["started", "joined"])
def test_ray_is_given_an_empty_folder_to_import_from_that_goes_with_the_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", address)
    ray = use(monkeypatch)
    with running(TWO_CPUS):
        assert Path.cwd() == tmp_path
        assert ray.folder.is_dir()
    assert (ray.folder != tmp_path, ray.files, ray.folder.exists()) == (True, [], False)


def test_a_ray_that_cant_be_started_leaves_no_folder_and_the_current_one_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    ray = use(monkeypatch, raising(ConnectionError("gone")))
    with pytest.raises(DependencyError):
        start()
    assert (Path.cwd(), ray.folder.exists()) == (tmp_path, False)


@pytest.mark.parametrize(
    ("given", "seen"), [("cache", "{here}/cache"), ("/cache", "/cache"), ("~/cache", "~/cache"), ("$HOME/c", "$HOME/c")]
)
def test_a_path_in_the_environment_means_the_same_to_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, seen: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", given)
    ray = use(monkeypatch)
    start()
    assert ray.environment["HF_HOME"] == seen.format(here=tmp_path)


def test_sigterm_while_ray_starts_stops_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, raising(SystemExit(15)))
    with pytest.raises(KeyboardInterrupt):
        start()


def test_sigterm_after_ray_has_started_is_the_callers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = signal.getsignal(signal.SIGTERM)
    use(monkeypatch, lambda: signal.signal(signal.SIGTERM, lambda *_: None))
    start()
    assert signal.getsignal(signal.SIGTERM) is ours


def test_ray_can_be_started_from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(monkeypatch)
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert ray.stopped


@pytest.mark.parametrize(
    ("address", "where", "remedy"),
    [
        ("10.0.0.1:6379", "RAY_ADDRESS=10.0.0.1:6379", "check that its Ray is the same version"),
        ("", "a Ray on this machine", "free memory and disk space, or run the job again"),
    ],
)
@pytest.mark.parametrize("error", [ConnectionError, RuntimeError, TimeoutError, ValueError, Exception])
def test_a_ray_that_cant_be_reached_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str, where: str, remedy: str, error: type[Exception]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    use(monkeypatch, raising(error("no\n answer")))
    with pytest.raises(DependencyError, match=f"^Ray: can't reach or start {where}: no answer; {remedy}$"):
        start()


def test_a_defect_in_starting_ray_isnt_taken_for_an_unreachable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, raising(TypeError("unexpected option")))
    with pytest.raises(TypeError):
        start()


@pytest.mark.ray
def test_a_ray_that_runs_in_this_process_is_asked_and_used_and_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Resources.equal(3, 2)):
        import ray

        size, stated = resources(Cluster()), resources(Cluster(gpus=1))
        with running(TWO_CPUS):
            assert ray.cluster_resources()["CPU"] == 3
        assert ray.is_initialized()
    (group,) = size.groups
    assert (group.name, group.cpus, group.gpus, group.max) == ("", 3, 2, 1)
    assert group.memory
    assert (stated.cpus, stated.gpus, stated.nodes) == (3, 1, 1)
    assert not ray.is_initialized()


def test_the_fewest_nodes_of_each_group_are_asked_for_once_a_cluster_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    use(monkeypatch)
    monkeypatch.setitem(sys.modules, "ray.autoscaler", SimpleNamespace())
    sdk = SimpleNamespace(request_resources=lambda **what: asked.append(what))
    monkeypatch.setitem(sys.modules, "ray.autoscaler.sdk", sdk)
    with running(Resources((Group("cpu", 2, min=2, max=4), Group("gpu", 8, 1, min=1), Group("spot", 8, 1)))):
        pass
    request, withdrawn = asked
    assert withdrawn == {"bundles": [], "bundle_label_selectors": []}
    assert request["bundles"] == [{"CPU": 2}, {"CPU": 2}, {"CPU": 8, "GPU": 1}]
    assert [selector["ray.io/node-group"] for selector in request["bundle_label_selectors"]] == ["cpu", "cpu", "gpu"]
