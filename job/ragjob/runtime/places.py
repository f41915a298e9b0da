"""Places for the actors of a flow, taken from Ray one pool after another before the flow starts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ragjob.errors import DependencyError
from ragjob.settings import Pool

GROUP_LABEL = "ray.io/node-group"  # of a node of Ray's, by which pools name their nodes; KubeRay sets it
TAKEN_WITHIN_S = 4 * 3600.0  # that nodes may take to come

Taken = dict[str, dict[str, Any]]  # what `map_batches` is told of the places of each step's actors


def bundle(cpus: float, gpus: float) -> dict[str, float]:
    """What Ray is asked for with an actor or a node."""
    return {"CPU": cpus} | ({"GPU": gpus} if gpus else {})


def anywhere(pool: Pool) -> dict[str, Any]:
    """What `map_batches` is told about where actors of `pool` may be: on the first of its groups, else on another."""
    if not (groups := _labels(pool)):
        return {}
    first, *others = ({"label_selector": {GROUP_LABEL: name}} for name in groups)
    return first | ({"fallback_strategy": others} if others else {})


def _labels(pool: Pool) -> list[str]:
    """The labels of nodes for `pool`; none for any.

    On a Ray whose nodes have no labels, such as one on this machine, there is one group, whatever the settings call it.
    """
    import ray

    return pool.groups if any(GROUP_LABEL in node["Labels"] for node in ray.nodes()) else []


@contextmanager
def taken(pools: Mapping[str, Pool]) -> Iterator[Taken]:
    """Take the places for all actors of each of `pools`, in their order, for the time of the block.

    Yields what `map_batches` is told about them. Raises `DependencyError` if there is no room within
    `TAKEN_WITHIN_S` seconds.
    """
    from ray.util import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    groups = []
    try:
        for name, pool in pools.items():
            labels = _labels(pool)
            where = [{GROUP_LABEL: f"in({','.join(labels)})"}] * pool.max if labels else None
            bundles = [bundle(pool.num_cpus, pool.num_gpus)] * pool.max
            groups.append(placement_group(bundles, bundle_label_selector=where))
            if not groups[-1].wait(TAKEN_WITHIN_S):
                raise DependencyError(
                    f"Ray: no room for the {pool.max} actors of {name} in {TAKEN_WITHIN_S:.0f} s; add nodes, or lower "
                    "max, num_cpus or num_gpus of their pool"
                )
        strategies = map(PlacementGroupSchedulingStrategy, groups)
        yield {name: {"scheduling_strategy": strategy} for name, strategy in zip(pools, strategies, strict=True)}
    finally:
        for group in groups:
            remove_placement_group(group)
