"""What is proposed for a cluster, whatever engine answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from ragjob.config import JobSettings, keys_of
from ragjob.engines import ENGINES
from ragjob.errors import SettingsError
from ragjob.models.capacity import Model, Proposal, Resources, Work, facts, passage_flops
from ragjob.models.folder import find_folder
from ragjob.planning.packing import check_pools
from ragjob.planning.proposals import Answering, Flow, Indexing, propose
from tests.engines.shapes import MINILM, QWEN_05B, QWEN_7B, engine_of, given, listed

LARGE, SMALL = Work(100_000, 5_000), Work(300, 20)


def following(settings: JobSettings, proposals: list[Proposal]) -> JobSettings:
    """`settings` with the proposals."""
    tree = settings.model_dump()
    for proposal in proposals:
        node, (*sections, name) = tree, proposal.key.split(".")
        for section in sections:
            node = node[section]
        node[name] = proposal.value
    return JobSettings(**tree)


def proposed(size: Resources, work: Work, **assigned: Any) -> dict[str, float]:
    """What is proposed for an index."""
    return {proposal.key: proposal.value for proposal in propose(given(**assigned), size, MINILM, [Indexing(work)])}


def cpus(count: float, nodes: int = 1) -> Resources:
    return Resources.equal(count, nodes=nodes)


def gpus(count: float, nodes: int = 1) -> Resources:
    return Resources.equal(8 * count, count, nodes)


def test_one_actor_a_node_has_all_of_its_threads() -> None:
    assert proposed(cpus(8), LARGE) == {}
    assert proposed(cpus(32, nodes=4), LARGE) == {"embed.pool.min": 4, "embed.pool.max": 4}


def test_there_are_no_more_actors_than_documents() -> None:
    assert proposed(cpus(32, nodes=4), Work(100_000, 1)) == {}


def test_an_index_gets_every_gpu_whole_and_batches_that_fill_it() -> None:
    assert proposed(gpus(4), LARGE) == {
        "embed.pool.min": 4,
        "embed.pool.max": 4,
        "embed.pool.num_gpus": 1,
        "embed.batch_size": 128,
    }


def test_blocks_are_small_enough_that_all_actors_end_together() -> None:
    assert proposed(cpus(32, nodes=8), Work(6_400, 6_400))["commit_rows"] == 200
    assert "commit_rows" not in proposed(cpus(32, nodes=8), LARGE)


def test_a_block_holds_a_batch_of_the_gpu() -> None:
    proposals = proposed(gpus(8), SMALL)
    assert (proposals["commit_rows"], proposals["embed.batch_size"]) == (128, 128)
    assert proposed(gpus(1), LARGE, chunk__size=16, chunk__overlap=0)["embed.batch_size"] == 256


CLUSTERS = st.builds(
    lambda cpus, gpus, nodes, memory: Resources.equal(cpus * nodes, gpus * nodes, nodes, memory),
    st.integers(1, 64),
    st.integers(0, 8),
    st.integers(1, 8),
    st.sampled_from([None, 8 * 10**9]),
)
WORK = st.builds(Work, st.integers(0, 10**6), st.integers(1, 10**6))


@forall(
    CLUSTERS,
    st.sampled_from([("index",), ("answer",), ("index", "answer")]),
    st.tuples(WORK, WORK),
    st.sampled_from(sorted(ENGINES)),
    st.sampled_from([MINILM, QWEN_05B, QWEN_7B]),
    st.sampled_from([None, 16, 80]),
)
def test_proposals_fit_the_cluster_and_whoever_follows_them_gets_no_more(
    size: Resources, names: tuple[str, ...], work: tuple[Work, Work], engine: str, model: Model, gpu_gb: float | None
) -> None:
    def flows(settings: JobSettings) -> list[Flow]:
        both: dict[str, Flow] = {
            "index": Indexing(work[0]),
            "answer": Answering(work[1], engine_of(settings, listed(model))),
        }
        return [both[name] for name in names]

    settings = given(generate__engine=engine, cluster__gpu_gb=gpu_gb)
    proposals = propose(settings, size, MINILM, flows(settings))
    after = following(settings, proposals)
    assert {proposal.key for proposal in proposals} <= set(keys_of())
    assert propose(after, size, MINILM, flows(after)) == []
    assert refusal(after, size, list(names)) is None or refusal(settings, size, list(names))


def refusal(settings: JobSettings, size: Resources, flows: list[str]) -> str | None:
    try:
        check_pools(settings, flows, size)
    except SettingsError as error:
        return str(error)
    return None


def test_what_is_known_of_a_model_comes_from_its_config(tmp_path: Path) -> None:
    config = {
        "num_hidden_layers": 24,
        "hidden_size": 896,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"12")
    assert facts(find_folder(str(tmp_path), "generate.model")) == Model(2, 24, 896, 12_288)


def test_a_pass_over_128_tokens_of_minilm_takes_2_87_gflop() -> None:
    assert passage_flops(MINILM, 128) == pytest.approx(2.87e9, rel=0.001)
