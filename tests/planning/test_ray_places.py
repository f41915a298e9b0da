"""What a plan accepts, Ray's own scheduler places, each time; what it refuses has no room, but for a few cases."""

import random
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group, remove_placement_group

from ragjob.config import JobSettings
from ragjob.errors import SettingsError
from ragjob.models.capacity import Group, Resources
from ragjob.planning.packing import Packing, pack, pool, pools
from ragjob.runtime import places

SHAPES = [(2, 0), (8, 0), (4, 1), (4, 4), (8, 2)]  # CPUs and GPUs of a node
MOST = 2  # nodes of a shape
TRIES = 5
WITHIN_S = 60

Nodes = tuple[tuple[str, int, tuple[int, ...]], ...]  # of each its group, and hundredths left of CPUs and of each GPU


def case(seed: int) -> tuple[JobSettings, dict[int, int]]:
    """Pools, and how many nodes of each of up to three shapes the cluster has."""
    draw = random.Random(seed)
    nodes = {shape: draw.randint(1, MOST) for shape in draw.sample(range(len(SHAPES)), draw.randint(1, 3))}
    has_gpus = any(SHAPES[shape][1] for shape in nodes)

    named = [f"g{shape}" for shape in draw.sample(sorted(nodes), draw.randint(1, len(nodes)))]

    def actors(most: int, cpus: list[float], gpus: list[float]) -> dict[str, Any]:
        share = draw.choice(gpus) if has_gpus else 0
        size = {"max": draw.randint(1, most), "num_cpus": draw.choice(cpus), "num_gpus": share}
        return {"pool": size | {"group": draw.choice([None, None, named])}}

    embed = actors(3, [0.5, 1, 2], [0, 0, 0.2, 0.25, 0.5, 1])
    generate = actors(4, [0.5, 1, 2, 4], [0, 0.5, 0.75, 1, 2])
    return JobSettings(embed=embed, retrieve=actors(2, [0.1], [0]), generate=generate), nodes


def size_of(nodes: dict[int, int]) -> Resources:
    return Resources(tuple(Group(f"g{shape}", *SHAPES[shape], max=count) for shape, count in nodes.items()))


def packed(settings: JobSettings, size: Resources) -> Packing | None:
    try:
        return pack(settings, "answer", size)
    except SettingsError:
        return None


# Against a search through all packings


def has_room(settings: JobSettings, size: Resources) -> bool:
    """Tell whether all actors can be placed in any way. Counts hundredths, which add up exactly."""
    wanted = [pool(settings, name) for name in pools(settings, "answer")]
    actors = [
        (
            round(100 * actor_pool.num_gpus),
            round(100 * actor_pool.num_cpus),
            {*actor_pool.groups} or {group.name for group in size.groups},
        )
        for actor_pool in wanted
        for _ in range(actor_pool.max)
    ]
    actors.sort(key=lambda actor: actor[:2])

    @cache
    def place(left: int, nodes: Nodes) -> bool:
        if left == 0:
            return True
        share, cpus, groups = actors[left - 1]
        return any(
            place(left - 1, tuple(sorted((*nodes[:at], (group, free - cpus, rest), *nodes[at + 1 :]))))
            for at, (group, free, gpus) in enumerate(nodes)
            if group in groups and free >= cpus and nodes[at] not in nodes[:at]
            for rest in without(gpus, share)
        )

    reads_and_writes = 40
    nodes = sorted(
        (group.name, round(100 * group.cpus), (100,) * group.gpus) for group in size.groups for _ in range(group.max)
    )
    reserved = sum(cpus for _, cpus, _ in actors) + reads_and_writes
    return reserved <= 100 * size.cpus and place(len(actors), tuple(nodes))


def without(gpus: tuple[int, ...], share: int) -> set[tuple[int, ...]]:
    """What may be left of a node's GPUs once `share` is taken of one of them, or of several whole ones."""
    whole, part = divmod(share, 100)
    if part:
        enough = [at for at, left in enumerate(gpus) if left >= part]
        return {tuple(sorted((*gpus[:at], gpus[at] - part, *gpus[at + 1 :]))) for at in enough}
    return {(0,) * whole + gpus[: len(gpus) - whole]} if gpus.count(100) >= whole else set()


@pytest.mark.parametrize("seeds", [range(400), pytest.param(range(400, 4_000), marks=pytest.mark.soak)], ids=str)
def test_few_pools_are_refused_that_have_room_and_none_accepted_that_have_none(seeds: range) -> None:
    cases = [(settings, size_of(nodes)) for settings, nodes in map(case, seeds)]
    room = [has_room(settings, size) for settings, size in cases]
    accepted = [packed(settings, size) is not None for settings, size in cases]
    pairs = [*zip(room, accepted, strict=True)]
    assert (False, True) not in pairs
    assert pairs.count((True, False)) <= 0.05 * len(cases)
    assert min(pairs.count((True, True)), pairs.count((False, False))) > 0.2 * len(cases)


# Against Ray


@ray.remote(max_calls=0)  # its processes stay, for the next try
def hold(folder: Path, name: str) -> None:
    """Stand for an actor: keep what is reserved until all have started."""
    (folder / name).touch()
    while not (folder / "all").exists():
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray with the most nodes of every shape, beside a head without CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_num_workers_soft_limit", "16")  # idle processes that a node keeps for the next case
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
        for shape, (cpus, gpus) in enumerate(SHAPES):
            for _ in range(MOST):
                patch.setenv("RAY_NODE_TYPE_NAME", f"g{shape}")  # as KubeRay sets it: Ray makes a label of it
                made.add_node(wait=False, num_cpus=cpus, num_gpus=gpus)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        made.shutdown()


def taken_up(nodes: dict[int, int]) -> list[Any]:
    """What takes up all nodes but those of the case."""
    groups = []
    for shape, (cpus, gpus) in enumerate(SHAPES):
        whole = places.bundle(cpus, gpus)
        for _ in range(MOST - nodes.get(shape, 0)):
            groups.append(placement_group([whole], bundle_label_selector=[{places.GROUP_LABEL: f"g{shape}"}]))
            assert groups[-1].wait(WITHIN_S)
    return groups


def all_start(settings: JobSettings, reserved: tuple[str, ...], folder: Path) -> bool:
    """Tell whether Ray finds a place for every actor of a flow at once, asked as a flow asks."""
    wanted = {name: pool(settings, name) for name in pools(settings, "answer")}
    with places.taken({name: wanted[name] for name in reserved}) as taken:
        names = [(name, f"{name}-{number}") for name, actor_pool in wanted.items() for number in range(actor_pool.max)]
        held = []
        for name, actor in names:
            where = taken.get(name) or {"scheduling_strategy": "SPREAD"} | places.anywhere(wanted[name])
            resources = {"num_cpus": wanted[name].num_cpus, "num_gpus": wanted[name].num_gpus}
            held.append(hold.options(**resources, **where).remote(folder, actor))
        deadline = time.monotonic() + WITHIN_S
        while not (started := all((folder / actor).exists() for _, actor in names)) and time.monotonic() < deadline:
            time.sleep(0.02)
        (folder / "all").touch()
        ray.get(held)
    return started


@pytest.mark.timeout(3600)
@pytest.mark.scheduler
@pytest.mark.parametrize("seeds", [range(5, 13), pytest.param(range(13, 225), marks=pytest.mark.soak)], ids=str)
def test_what_a_plan_accepts_ray_places_every_time(cluster: None, tmp_path: Path, seeds: range) -> None:
    failed, accepted = [], 0
    for seed in seeds:
        settings, nodes = case(seed)
        packing = packed(settings, size_of(nodes))
        if packing is None:
            continue
        accepted += 1
        others = taken_up(nodes)
        for number in range(TRIES):
            folder = tmp_path / f"{seed}-{number}"
            folder.mkdir()
            if not all_start(settings, packing.reserved, folder):
                failed.append((seed, number))
                break
        for group in others:
            remove_placement_group(group)
    assert failed == []
    assert accepted > len(seeds) / 4
