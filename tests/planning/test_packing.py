import time
from typing import Any

import pytest

from ragjob.config import JobSettings
from ragjob.errors import SettingsError
from ragjob.models.capacity import Group, Resources, threads
from ragjob.planning.packing import check_pools, free_tasks, pack
from ragjob.settings import Pool

BOTH = ["index", "answer"]


def pools(**sizes: dict[str, Any]) -> JobSettings:
    """Settings with these pools; an actor takes a tenth of a CPU where none is said."""
    return JobSettings(**{name: {"pool": {"num_cpus": 0.1} | size} for name, size in sizes.items()})


def gpus(count: float) -> Resources:
    return Resources.equal(16, count)


def cpus(count: float, nodes: int = 1) -> Resources:
    return Resources.equal(count, nodes=nodes)


def test_the_defaults_fit_two_cpus_for_both_flows() -> None:
    assert check_pools(JobSettings(), BOTH, cpus(2)) == "index: 1 of 2 CPUs; answer: 1.6 of 2 CPUs"


def test_a_job_with_no_flow_left_needs_no_pool() -> None:
    assert check_pools(JobSettings(), [], cpus(0.1)) == "none"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            pools(embed={"max": 4, "num_cpus": 1}),
            "embed.pool.max: the pools of `index` reserve 4 CPUs, and reading and",
        ),
        (
            pools(embed={"num_cpus": 3.7}),
            "embed.pool.max: .* need 0.4 more, but the cluster has 4; lower",
        ),
        (pools(generate={"max": 40}), "generate.pool.max: the pools of `answer` reserve 5.1 CPUs"),
    ],
)
def test_pools_that_leave_no_room_for_reads_and_writes_are_refused(settings: JobSettings, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        check_pools(settings, BOTH, cpus(4))


def test_pools_that_leave_just_the_room_for_reads_and_writes_fit() -> None:
    assert check_pools(pools(embed={"num_cpus": 3.6}), ["index"], cpus(4)) == "index: 3.6 of 4 CPUs"


def test_an_actor_that_no_node_can_hold_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^embed.pool.num_cpus: 3 for one actor, but no node has over 2; lower"):
        check_pools(pools(embed={"num_cpus": 3}), ["index"], cpus(8, nodes=4))


def test_actors_that_the_nodes_cant_hold_together_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^embed.pool.num_cpus: 1.2 CPUs don't fit .* 2 nodes of 2 CPUs; lower"):
        check_pools(pools(embed={"max": 3, "num_cpus": 1.2}), ["index"], cpus(4, nodes=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (pools(embed={"max": 2, "num_gpus": 0.6}), "embed.pool.num_gpus: 0.6 of a GPU and 0.1 CPUs don't fit"),
        (pools(embed={"num_gpus": 0.6}, generate={"num_gpus": 0.5}), "embed.pool.num_gpus: 0.6 .* of `answer` on"),
        (pools(embed={"num_gpus": 1.5}), "embed.pool.num_gpus: 1.5 can't be placed; above one GPU, use a whole number"),
        (pools(embed={"num_gpus": 2}), "embed.pool.num_gpus: 2 for one actor, but no node has over 1"),
        (pools(embed={"max": 3, "num_gpus": 0.5}), "embed.pool.num_gpus: 0.5 .* and 1 GPUs; lower the pools' shares"),
    ],
)
def test_gpu_shares_that_cant_be_placed_together_are_refused(settings: JobSettings, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        check_pools(settings, BOTH, gpus(1))


def test_an_actor_of_more_gpus_than_a_node_has_is_refused() -> None:
    two_nodes = Resources.equal(16, 2, 2)
    assert check_pools(pools(generate={"max": 2, "num_gpus": 1}), ["answer"], two_nodes).endswith("2 of 2 GPUs")
    with pytest.raises(SettingsError, match=r"^generate.pool.num_gpus: 2 for one actor, but no node has over 1; lower"):
        check_pools(pools(generate={"num_gpus": 2}), ["answer"], two_nodes)


def test_a_gpu_share_without_a_gpu_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"^embed.pool.num_gpus: 0.25 of a GPU, but the cluster has none; set it to"
    ):
        check_pools(pools(embed={"num_gpus": 0.25}), ["index"], gpus(0))


@pytest.mark.parametrize(
    ("settings", "count", "used"),
    [
        (pools(embed={"max": 4, "num_gpus": 0.1}, generate={"max": 4, "num_gpus": 0.15}), 1, "1 of 1 GPUs"),
        (pools(embed={"max": 10, "num_gpus": 0.1}), 1, "1 of 1 GPUs"),
        (pools(embed={"max": 3, "num_gpus": 0.3}), 1, "0.9 of 1 GPUs, 0.1 left over"),
        (pools(embed={"max": 2, "num_gpus": 0.6}), 2, "1.2 of 2 GPUs, 0.8 left over"),
        (pools(embed={"num_gpus": 1}, generate={"num_gpus": 2}), 4, "3 of 4 GPUs"),
        (pools(embed={"max": 2, "num_gpus": 0.4}, generate={"max": 2, "num_gpus": 0.6}), 2, "2 of 2 GPUs"),
    ],
)
def test_shares_that_fit_are_packed_and_waste_is_told(settings: JobSettings, count: int, used: str) -> None:
    assert check_pools(settings, ["answer"], gpus(count)).endswith(f" CPUs, {used}")


def test_flows_run_after_each_other_and_dont_share_gpus() -> None:
    settings = pools(embed={"num_gpus": 0.5}, generate={"num_gpus": 0.5})
    assert check_pools(settings, BOTH, gpus(1)).endswith("answer: 0.3 of 16 CPUs, 1 of 1 GPUs")


SMALL_CPUS, ONE_GPU = Group("cpu", 2, max=4), Group("gpu", 8, 1)
MIXED = Resources((SMALL_CPUS, ONE_GPU))


def test_an_actor_goes_to_the_group_whose_nodes_hold_it() -> None:
    generator = pools(generate={"num_cpus": 4, "num_gpus": 1})
    assert check_pools(generator, BOTH, MIXED) == (
        "index: 1 of 16 CPUs, 0 of 1 GPUs; answer: 5.1 of 16 CPUs, 1 of 1 GPUs"
    )
    assert pack(generator, "answer", MIXED).reserved == ()


def test_places_are_reserved_where_small_actors_might_take_a_large_ones() -> None:
    almost_all = pools(embed={"max": 2, "num_cpus": 1}, generate={"num_cpus": 7, "num_gpus": 1})
    assert pack(almost_all, "answer", MIXED).reserved[0] == "generate"
    on_cpus = pools(embed={"max": 2, "num_cpus": 1, "group": "cpu"}, generate={"num_cpus": 7, "num_gpus": 1})
    assert pack(on_cpus, "answer", MIXED).reserved == ()


def test_gpus_of_several_nodes_make_no_larger_one() -> None:
    pairs = pools(generate={"max": 3, "num_gpus": 2})
    with pytest.raises(SettingsError, match=r"^generate.pool.num_gpus: 2 of a GPU .* on 2 nodes of 8 CPUs and 3 GPUs"):
        check_pools(pairs, ["answer"], Resources((Group("gpu", 8, 3, max=2),)))
    assert check_pools(pairs, ["answer"], Resources((Group("gpu", 8, 3, max=3),))).endswith("6 of 9 GPUs")


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ({"group": "large"}, "embed.pool.group: no nodes are named large; the cluster has cpu, gpu"),
        ({"num_cpus": 4, "group": "cpu"}, "embed.pool.num_cpus: 4 for one actor, but no node of group cpu has over 2;"),
        ({"num_gpus": 0.5, "group": ["cpu"]}, "embed.pool.num_gpus: 0.5 for one actor, but no node of group cpu has"),
        ({"num_gpus": 2}, "embed.pool.num_gpus: 2 for one actor, but no node has over 1; lower it"),
    ],
)
def test_a_pool_keeps_to_the_groups_it_names(pool: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        check_pools(pools(embed=pool), ["index"], MIXED)


def test_no_node_has_both_the_cpus_and_the_gpus_of_an_actor() -> None:
    apart = Resources((Group("cpu", 16), Group("gpu", 2, 1)))
    with pytest.raises(
        SettingsError, match=r"^embed.pool.num_cpus: 4 beside 1 GPUs for one actor, but no node has both"
    ):
        check_pools(pools(embed={"num_cpus": 4, "num_gpus": 1}), ["index"], apart)


def test_large_clusters_are_packed_in_seconds() -> None:
    size = Resources((Group("a", 16, 8, max=100), Group("b", 32, max=100)))
    settings = pools(embed={"max": 200, "num_gpus": 0.2}, generate={"max": 400, "num_cpus": 2, "num_gpus": 1})
    start = time.process_time()
    pack(settings, "answer", size)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("pool", "size", "count"),
    [
        (Pool(), cpus(8), 8),
        (Pool(max=4), cpus(8), 2),
        (Pool(max=4), cpus(8, nodes=2), 2),
        (Pool(max=3), cpus(8, nodes=2), 2),
        (Pool(max=16), cpus(8), 1),
        (Pool(num_cpus=4), MIXED, 8),
        (Pool(group="cpu", max=4), MIXED, 2),
        (Pool(max=5), MIXED, 2),
    ],
)
def test_a_pools_actors_divide_the_cpus_of_their_node_among_them(pool: Pool, size: Resources, count: int) -> None:
    assert threads(pool, size) == count


@pytest.mark.parametrize(("count", "tasks"), [(2, 1), (16, 15), (1, 1)])
def test_reads_and_writes_take_what_the_pools_leave(count: float, tasks: int) -> None:
    assert free_tasks(JobSettings(), "index", cpus(count)) == tasks
