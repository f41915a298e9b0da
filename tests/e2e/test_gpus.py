"""A standing Ray cluster of unequal groups, whose GPUs a node only advertises: scaled from zero, and submitted to."""

import json
from collections.abc import Iterator

import pytest

from tests.documented import run_by
from tests.e2e.cluster import published, standing
from tests.e2e.conftest import Place, Places
from tests.e2e.ray_job import ENTRYPOINT, reached

# Prints how many GPUs Ray sees at first, and on how many sit four actors of 0.1 and two of 0.15, then four of 0.25.
SHARE = """
import json, ray
ray.init(logging_level="ERROR")
@ray.remote
class Actor:
    def gpu(self):
        return ray.get_runtime_context().get_node_id() + str(ray.get_gpu_ids())
def place(shares):
    actors = [Actor.options(num_cpus=0.1, num_gpus=share).remote() for share in shares]
    placed = ray.get([actor.gpu.remote() for actor in actors], timeout=200)
    [ray.kill(actor) for actor in actors]
    return len(set(placed))
print(json.dumps([ray.cluster_resources().get("GPU", 0), place([0.1] * 4 + [0.15] * 2), place([0.25] * 4)]))
"""
SMALL = {"requests": {"cpu": "200m", "memory": "256Mi"}}
WORKERS = [
    {"name": "cpu", "min": 0, "max": 4, "cpus": 2, "memory": "6Gi", "resources": SMALL},
    {"name": "gpu", "min": 0, "max": 1, "cpus": 8, "gpus": 1, "memory": "12Gi", "resources": SMALL},
]
# More CPUs than a node has on average, and all of the GPU.
LARGE = {"pool": {"num_cpus": 4, "num_gpus": 1}}


@pytest.fixture(scope="module")
def place(places: Places) -> Iterator[Place]:
    with places() as made:
        nodes = made.namespace.get("nodes")
        if not any(int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes):
            pytest.skip("no node advertises nvidia.com/gpu; ../shared/cluster/fake-gpus pretends")
        yield made


@pytest.fixture(scope="module")
def head(place: Place) -> str:
    """The pod of a standing cluster's head; its groups have no pods yet."""
    place.values["config"] |= {"generate": LARGE}
    return standing(place.namespace, place.values | {"workers": WORKERS})


def test_a_group_that_scales_from_zero_gets_its_pod_and_actors_share_its_gpu_by_fractions(
    place: Place, head: str
) -> None:
    assert place.namespace.pods("worker") == []
    said = place.namespace.run("kubectl", "exec", head, "-c", "ray", "--", "python", "-c", SHARE)
    # Ray sees no GPU at first: the autoscaler, which speaks before, brings it while the actors wait.
    assert json.loads(said.splitlines()[-1]) == [0, 1, 1]
    (worker,) = place.namespace.pods("worker")
    assert worker["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_ray_job_submit_answers_where_one_group_alone_holds_the_generator(place: Place, head: str) -> None:
    with reached(place.namespace, head) as ray:
        ended = ray("submit", "--", *ENTRYPOINT)
    assert ended.returncode == 0, ended.stdout
    assert "34 prompts, 0 errors" in ended.stdout
    assert [table.num_rows for table in published(place.bucket)] == [34]


@pytest.mark.parametrize(
    ("command", "says"), run_by("tests/e2e/test_gpus.py::test_ray_job_submit_plans_where_the_job_will_run")
)
def test_ray_job_submit_plans_where_the_job_will_run(command: str, says: str, place: Place, head: str) -> None:
    with reached(place.namespace, head) as ray:  # at an address of its own
        ended = ray("submit", "--", *command.partition(" -- ")[2].split())
    assert ended.returncode == 0, ended.stdout
    assert says in ended.stdout
