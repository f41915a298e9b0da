"""What is proposed for a cluster, and that docs/tuning.md has the numbers that come out."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job import engines, fit, tuning
from job.cluster import Resources
from job.config import JobSettings, keys_of
from job.engines import kv_cache_bytes
from job.errors import SettingsError
from job.models.folder import find_folder
from job.models.generation import VLLM_SEQUENCES
from job.tuning import Model, Proposal, Work, propose

DOC = (Path(__file__).parents[1] / "docs" / "tuning.md").read_text("utf-8")
# From their configs and listings on the hub.
MINILM = Model(weights=90_868_376, layers=6, width=384)
QWEN_05B = Model(weights=988_097_824, layers=24, width=896, kv_token=12_288)
QWEN_7B = Model(weights=15_231_233_024, layers=28, width=3584, kv_token=57_344)
LARGE, SMALL = Work(100_000, 5_000), Work(300, 20)
PROMPTS = Work(10_000, 10_000)


def given_settings(**assigned: Any) -> JobSettings:
    """Settings with these values, by key with `__` for the dot."""
    tree: dict[str, Any] = {}
    for key, value in assigned.items():
        node, (*sections, name) = tree, key.split("__")
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return JobSettings(**tree)


def following(settings: JobSettings, proposals: list[Proposal]) -> JobSettings:
    """`settings` with the proposals."""
    tree = settings.model_dump()
    for proposal in proposals:
        node, (*sections, name) = tree, proposal.key.split(".")
        for section in sections:
            node = node[section]
        node[name] = proposal.value
    return JobSettings(**tree)


def proposed(
    size: Resources, work: dict[str, Work], generate: Model | None = None, **assigned: Any
) -> dict[str, float]:
    found = propose(given_settings(**assigned), size, work, MINILM, generate)
    return {proposal.key: proposal.value for proposal in found}


def cpus(count: float, nodes: int = 1) -> Resources:
    return Resources(count, 0, nodes, None)


def gpus(count: float, nodes: int = 1) -> Resources:
    return Resources(8 * count, count, nodes, None)


# On processors


def test_one_actor_a_node_has_all_of_its_threads() -> None:
    assert proposed(cpus(8), {"index": LARGE}) == {}
    assert proposed(cpus(32, nodes=4), {"index": LARGE}) == {"embed.pool.min": 4, "embed.pool.max": 4}


def test_there_are_no_more_actors_than_documents() -> None:
    assert proposed(cpus(32, nodes=4), {"index": Work(100_000, 1)}) == {}


def test_a_generator_has_all_threads_of_its_node() -> None:
    found = proposed(cpus(16, nodes=4), {"answer": PROMPTS}, QWEN_05B, generate__engine="transformers")
    assert (found["generate.pool.max"], found["embed.pool.max"]) == (4, 4)


def test_an_api_gets_one_actor() -> None:
    found = proposed(cpus(8), {"answer": PROMPTS}, generate__engine="openai", generate__pool__max=3)
    assert found == {"generate.pool.max": 1}


# On GPUs


def test_an_index_gets_every_gpu_whole_and_batches_that_fill_it() -> None:
    found = proposed(gpus(4), {"index": LARGE})
    assert found == {
        "embed.pool.min": 4,
        "embed.pool.max": 4,
        "embed.pool.num_gpus": 1,
        "embed.batch_size": 128,
    }


def test_answers_alone_get_the_gpus_and_questions_are_embedded_on_cpus() -> None:
    found = proposed(gpus(4), {"answer": PROMPTS}, QWEN_05B, generate__engine="vllm", embed__pool__num_gpus=0.5)
    assert (found["generate.pool.num_gpus"], found["generate.pool.max"], found["embed.pool.num_gpus"]) == (1, 4, 0)


def test_a_run_shares_each_gpu_by_what_an_embedder_takes() -> None:
    both = {"index": LARGE, "answer": PROMPTS}
    known = proposed(gpus(2, 2), both, QWEN_05B, generate__engine="vllm", cluster__gpu_gb=24)
    unknown = proposed(gpus(2, 2), both, QWEN_05B, generate__engine="vllm")
    assert (known["embed.pool.num_gpus"], known["generate.pool.num_gpus"]) == (0.1, 0.9)
    assert (unknown["embed.pool.num_gpus"], unknown["generate.pool.num_gpus"]) == (0.2, 0.8)


def test_a_run_on_nodes_of_several_gpus_gets_an_embedder_a_node_so_that_each_generator_has_a_place() -> None:
    both = {"index": LARGE, "answer": PROMPTS}
    found = proposed(gpus(4, 2), both, QWEN_05B, generate__engine="vllm", cluster__gpu_gb=24)
    assert (found["embed.pool.max"], found["generate.pool.max"]) == (2, 4)


def test_actors_of_several_gpus_stay_within_their_nodes() -> None:
    large = replace(QWEN_7B, weights=2 * QWEN_7B.weights)
    found = proposed(gpus(6, 2), {"answer": PROMPTS}, large, generate__engine="vllm", cluster__gpu_gb=24)
    assert (found["generate.pool.num_gpus"], found["generate.pool.max"]) == (2, 2)
    few = proposed(gpus(2, 4), {"answer": PROMPTS}, QWEN_05B, generate__engine="vllm", cluster__gpu_gb=24)
    assert few["generate.pool.max"] == 2


def test_a_model_that_only_the_gpus_set_can_hold_keeps_them() -> None:
    large = replace(QWEN_7B, weights=6 * QWEN_7B.weights)
    how = {"generate__engine": "vllm", "generate__pool__num_gpus": 6, "cluster__gpu_gb": 24}
    assert "generate.pool.num_gpus" not in proposed(gpus(6), {"answer": PROMPTS}, large, **how)


def test_a_model_that_one_gpu_cant_hold_gets_several_and_embedders_stay_on_cpus() -> None:
    both = {"index": LARGE, "answer": PROMPTS}
    large = replace(QWEN_7B, weights=2 * QWEN_7B.weights)
    found = proposed(gpus(4), both, large, generate__engine="vllm", cluster__gpu_gb=24, embed__pool__num_gpus=0.1)
    assert (found["generate.pool.num_gpus"], found["generate.pool.max"]) == (2, 2)
    assert found["embed.pool.num_gpus"] == 0


def test_a_model_that_leaves_no_room_for_a_prompt_gets_no_batch_proposed() -> None:
    how = {"generate__engine": "transformers", "cluster__gpu_gb": 16}
    assert "generate.batch_tokens" not in proposed(gpus(1), {"answer": PROMPTS}, QWEN_7B, **how)


@pytest.mark.parametrize(
    ("model", "stated", "tokens"), [(QWEN_05B, 32_768, 125_184), (QWEN_7B, 32_768, 25_585), (QWEN_7B, 20_000, None)]
)
def test_a_batch_of_transformers_fills_what_the_weights_leave(model: Model, stated: int, tokens: int | None) -> None:
    how = {"generate__engine": "transformers", "generate__batch_tokens": stated, "cluster__gpu_gb": 24}
    assert proposed(gpus(1), {"answer": PROMPTS}, model, **how).get("generate.batch_tokens") == tokens


# Blocks


def test_blocks_are_small_enough_that_all_actors_end_together() -> None:
    assert proposed(cpus(32, nodes=8), {"index": Work(6_400, 6_400)})["commit_rows"] == 200
    assert "commit_rows" not in proposed(cpus(32, nodes=8), {"index": LARGE})
    few = proposed(cpus(32, 4), {"answer": Work(100, 100)}, QWEN_05B, generate__engine="transformers")
    assert few["commit_rows"] == tuning.FEWEST_ROWS


def test_a_block_holds_a_batch_of_the_gpu() -> None:
    found = proposed(gpus(8), {"index": SMALL})
    assert (found["commit_rows"], found["embed.batch_size"]) == (128, 128)
    assert proposed(gpus(1), {"index": LARGE}, chunk__size=16, chunk__overlap=0)["embed.batch_size"] == 256


# All of it

CLUSTERS = st.builds(
    lambda cpus, gpus, nodes, memory: Resources(float(cpus * nodes), float(gpus * nodes), nodes, memory),
    st.integers(1, 64),
    st.integers(0, 8),
    st.integers(1, 8),
    st.sampled_from([None, 8 * 10**9]),
)
WORK = st.builds(Work, st.integers(0, 10**6), st.integers(1, 10**6))
FLOWS = st.one_of(
    *(st.fixed_dictionaries(dict.fromkeys(flows, WORK)) for flows in (["index"], ["answer"], ["index", "answer"]))
)


@given(
    CLUSTERS,
    FLOWS,
    st.sampled_from(["extractive", "transformers", "vllm", "openai"]),
    st.sampled_from([MINILM, QWEN_05B, QWEN_7B]),
    st.sampled_from([None, 16, 80]),
)
def test_proposals_fit_the_cluster_and_whoever_follows_them_gets_no_more(
    size: Resources, work: dict[str, Work], engine: str, model: Model, gpu_gb: float | None
) -> None:
    settings = given_settings(generate__engine=engine, cluster__gpu_gb=gpu_gb)
    generate = model if engine in ("transformers", "vllm") else None
    found = propose(settings, size, work, MINILM, generate)
    after = following(settings, found)
    assert {proposal.key for proposal in found} <= set(keys_of())
    assert propose(after, size, work, MINILM, generate) == []
    assert refusal(after, size, work) is None or refusal(settings, size, work)


def refusal(settings: JobSettings, size: Resources, work: dict[str, Work]) -> str | None:
    try:
        fit.check_pools(settings, list(work), size)
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
    assert tuning.facts(find_folder(str(tmp_path), "generate.model")) == Model(2, 24, 896, 12_288)


def test_a_pass_over_128_tokens_of_minilm_takes_2_87_gflop() -> None:
    assert tuning.passage_flops(MINILM, 128) == pytest.approx(2.87e9, rel=0.001)


def test_the_kv_cache_has_the_room_that_vllm_made_on_a_gpu() -> None:
    # Measured on 0.45 of an H200 of 143,771 MiB with vLLM 0.32 and a model of this shape: 4,745,904 tokens.
    shares = {"generate__engine": "vllm", "generate__pool__num_gpus": 0.45, "cluster__gpu_gb": 150.75}
    room = kv_cache_bytes(given_settings(**shares), QWEN_05B.weights)
    assert room is not None
    assert room / 12_288 == pytest.approx(4_745_904, rel=0.005)


# The numbers of docs/tuning.md


@dataclass(frozen=True)
class Gpu:
    """Memory in GB, peak FLOP/s of dense products in half precision, and bytes/s of its memory, by its data sheet."""

    name: str
    gb: float
    flops: float
    bandwidth: float


GPUS = [
    Gpu("L4", 24, 121e12, 300e9),
    Gpu("A10", 24, 125e12, 600e9),
    Gpu("A100 40 GB", 40, 312e12, 1555e9),
    Gpu("A100 80 GB", 80, 312e12, 2039e9),
    Gpu("H100", 80, 989e12, 3350e9),
]
LLMS = {"Qwen2.5-0.5B": QWEN_05B, "Qwen2.5-7B": QWEN_7B}
# Bytes of embedding tables in half precision, which prefill needs none of: 0.5B's is tied to its output, 7B has two.
EMBEDDINGS = {"Qwen2.5-0.5B": 2 * 151_936 * 896, "Qwen2.5-7B": 2 * 2 * 152_064 * 3584}
REACHED = 0.4  # of the peak, by products of a model's size
CHUNKS_A_CPU = 1e6 / (4 * 200)  # a second: 1 MB of text, 4 bytes a token, 200 tokens a chunk


def table(*rows: tuple[object, ...]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def rounded(number: float) -> str:
    """Two digits of it that count."""
    return f"{float(f'{number:.1e}'):,.10g}"


def gpu_rows() -> Iterator[tuple[object, ...]]:
    yield "", "memory", "peak", "bandwidth", "FLOP for each byte"
    for gpu in GPUS:
        peak, bandwidth = f"{gpu.flops / 1e12:g} TFLOP/s", f"{gpu.bandwidth / 1e9:,.0f} GB/s"
        yield gpu.name, f"{gpu.gb} GB", peak, bandwidth, f"{gpu.flops / gpu.bandwidth:.0f}"


def model_rows() -> Iterator[tuple[object, ...]]:
    yield "", "weights", "FLOP", "cache a token", "cache of 1,956 tokens"
    for name, model in LLMS.items():
        cache = (model.kv_token or 0) * engines.sequence_tokens(JobSettings())
        flops = f"{(model.weights - EMBEDDINGS[name]) / 1e9:.2f} G a token"
        yield name, f"{model.weights / 1e9:.2f} GB", flops, f"{model.kv_token:,} bytes", f"{cache / 1e6:.0f} MB"
    flops = f"{tuning.passage_flops(MINILM, 200) / 1e9:.2f} G a chunk of 200 tokens"
    yield "all-MiniLM-L6-v2", f"{MINILM.weights / 1e9:.2f} GB", flops, "none", "none"


def embed_rows() -> Iterator[tuple[object, ...]]:
    yield "", "chunks/s", "CPUs that cut so many", "memory of an actor", "share beside a generator"
    for gpu in GPUS:
        rate = REACHED * gpu.flops / tuning.passage_flops(MINILM, 200)
        need = tuning.embedder_bytes(MINILM, tuning.batch_size(MINILM, 200) * 200)
        both = {"index": LARGE, "answer": PROMPTS}
        found = proposed(gpus(1), both, QWEN_05B, generate__engine="vllm", cluster__gpu_gb=gpu.gb)
        yield (
            gpu.name,
            rounded(rate),
            f"{rate / CHUNKS_A_CPU:.0f}",
            f"{need / 1e9:.1f} GB",
            found["embed.pool.num_gpus"],
        )


def generate_rows() -> Iterator[tuple[object, ...]]:
    yield (
        "",
        "model",
        "prompts that fit",
        "prefill",
        "decode",
        "prompts/s",
        "with 90 % of them cached",
    )
    for gpu in GPUS:
        for name, model in LLMS.items():
            settings = given_settings(generate__engine="vllm", generate__pool__num_gpus=1, cluster__gpu_gb=gpu.gb)
            total, new = engines.sequence_tokens(settings), settings.generate.max_new_tokens
            cache = (model.kv_token or 0) * total
            fitting = int((kv_cache_bytes(settings, model.weights) or 0) / cache)
            batch = min(fitting, VLLM_SEQUENCES)
            prefill = REACHED * gpu.flops / (model.weights - EMBEDDINGS[name])
            decode = batch * gpu.bandwidth / (model.weights + batch * cache)
            plain, cached = (1 / (share * (total - new) / prefill + new / decode) for share in (1, 0.1))
            rates = f"{rounded(prefill)} tokens/s", f"{rounded(decode)} tokens/s"
            yield gpu.name, name, fitting, *rates, rounded(plain), rounded(cached)


def proposal_rows() -> Iterator[tuple[object, ...]]:
    yield "cluster", "job", "proposed"
    index, answer = {"index": LARGE}, {"answer": PROMPTS}
    four = gpus(4, 4)
    for cluster, job, size, work, name in [
        ("4 nodes of 8 CPUs", "`index`", cpus(32, 4), index, None),
        ("the same", "`answer`, transformers", cpus(32, 4), answer, "Qwen2.5-0.5B"),
        ("4 nodes of 8 CPUs and an A10", "`index`", four, index, None),
        ("the same", "`answer`, vllm", four, answer, "Qwen2.5-7B"),
        ("the same", "`answer`, transformers", four, answer, "Qwen2.5-0.5B"),
        ("the same", "`run`, vllm", four, index | answer, "Qwen2.5-0.5B"),
    ]:
        engine = re.sub(r"`\w+`,? ?", "", job) or "extractive"
        found = proposed(size, work, LLMS[name] if name else None, generate__engine=engine, cluster__gpu_gb=24)
        lines = "<br>".join(f"`{key}={value}`" for key, value in found.items())
        yield cluster, f"{job}, {name}" if name else job, lines or "none"


@pytest.mark.parametrize("rows", [gpu_rows, model_rows, embed_rows, generate_rows, proposal_rows])
def test_the_tables_of_the_tuning_guide_are_what_comes_out(rows: Any) -> None:
    assert f"<!-- {rows.__name__.removesuffix('_rows')} -->\n\n{table(*rows())}\n" in DOC
