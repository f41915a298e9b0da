"""Groups with GPUs, on a node that only advertises them: pods are placed, and Ray shares the GPUs out."""

import json
from typing import Any

import pytest

from tests.e2e.cluster import Namespace, standing

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
GPU = {
    "name": "gpu",
    "min": 1,
    "max": 1,
    "cpus": 2,
    "gpus": 1,
    "memory": "6Gi",
    "resources": {"requests": {"cpu": "1"}},
}


@pytest.fixture(autouse=True)
def _gpus(namespace: Namespace) -> None:
    nodes = namespace.get("nodes")
    if not any(int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes):
        pytest.skip("no node advertises nvidia.com/gpu; ../shared/cluster/fake-gpus pretends")


def share(namespace: Namespace, head: str) -> list[float]:
    said = namespace.run("kubectl", "exec", head, "-c", "ray", "--", "python", "-c", SHARE)
    found: list[float] = json.loads(said.splitlines()[-1])  # the autoscaler speaks before
    return found


def test_actors_share_one_gpu_by_fractions(namespace: Namespace, values: dict[str, Any]) -> None:
    values["workers"] = [GPU]
    head = standing(namespace, values)
    (worker,) = namespace.pods("worker")
    assert worker["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert share(namespace, head) == [1, 1, 1]


def test_a_group_that_scales_from_zero_gets_its_pod(namespace: Namespace, values: dict[str, Any]) -> None:
    values["workers"] = [GPU | {"min": 0}]
    head = standing(namespace, values)
    assert namespace.pods("worker") == []
    # Ray sees no GPU at first: the autoscaler brings it while the actors wait.
    assert share(namespace, head) == [0, 1, 1]
    assert len(namespace.pods("worker")) == 1
