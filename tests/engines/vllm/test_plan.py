"""What a plan says of the vllm engine, and proposes for it. vLLM itself isn't looked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ragjob.config import JobSettings
from ragjob.engines.causal_lm import KEEP_MEMORY
from ragjob.engines.vllm import VLLM, arguments
from ragjob.errors import SettingsError
from ragjob.models.capacity import Model, Resources
from ragjob.planning.memory import actor_bytes, check_memory
from tests.engines.proposing import INDEX, gpus, proposed
from tests.engines.shapes import QWEN_05B, QWEN_7B, engine_of, given, listed
from tests.planning.jobs import Settings, ids

GB = 10**9
SMALL = replace(QWEN_05B, weights=2)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "check_arguments", lambda arguments, gpus: None)  # has tests of its own


def vllm(
    model: Model, gpus: float, gpu_gb: float | None = None, config: dict[str, Any] | None = None, **generate: Any
) -> VLLM:
    """The engine around a model; a prompt takes 300 + 200 + 100 tokens."""
    engine = engine_of(sized(gpus, gpu_gb, **generate), listed(model, **config or {}))
    assert isinstance(engine, VLLM)
    return engine


def sized(gpus: float, gpu_gb: float | None = None, **generate: Any) -> JobSettings:
    sizes: dict[str, Any] = {"engine": "vllm", "max_new_tokens": 100, "pool": {"num_gpus": gpus}}
    return given(generate=sizes | generate, augment__max_context_tokens=300, cluster__gpu_gb=gpu_gb)


def test_a_plan_says_how_many_prompts_fit_a_share_of_a_gpu() -> None:
    # 24 GB x 0.5 x 0.9 - 1.5 - 1 = 8.3 GB; 600 tokens x 12,288 bytes = 7.37 MB
    line = vllm(replace(QWEN_05B, weights=1 * GB), 0.5, 24).check()
    assert line == "vllm, about 1,125 prompts of 600 tokens fit its 8.3 GB of KV cache; at most 256 at once"


def test_several_gpus_hold_weights_and_cache_together() -> None:
    assert "fit its 30.2 GB" in vllm(replace(QWEN_05B, weights=10 * GB), 2, 24).check()


def test_a_model_that_leaves_no_room_for_one_prompt_is_refused_with_its_sizes() -> None:
    heavy = replace(QWEN_05B, weights=4 * GB)
    with pytest.raises(
        SettingsError, match=r"^generate.pool.num_gpus: leaves 0.0 GB for the KV cache .* takes 7 MB \(600 tokens of"
    ):
        vllm(heavy, 0.25, 24).check()


def test_without_the_gpus_memory_a_plan_says_what_a_token_takes() -> None:
    line = vllm(SMALL, 0.5).check()
    assert line == "vllm, 12,288 bytes of KV cache per token; state the GPUs' gpu_gb to see how many prompts fit"


@pytest.mark.parametrize(
    ("generate", "config", "cache"),
    [
        ({"dtype": "float32"}, {}, "24,576"),
        ({}, {"head_dim": 256}, "24,576"),
        ({}, {"num_key_value_heads": 7}, "86,016"),
    ],
)
def test_the_cache_of_a_token_follows_from_the_models_config(
    generate: dict[str, object], config: dict[str, object], cache: str
) -> None:
    assert f"vllm, {cache} bytes" in vllm(SMALL, 0.5, config=config, **generate).check()


def test_a_model_that_doesnt_tell_its_shape_is_let_through() -> None:
    silent = vllm(SMALL, 0.5, 24, config={"num_hidden_layers": None})
    assert "doesn't say how large its KV cache is" in silent.check()


def test_on_a_processor_the_cache_counts_as_memory_of_the_machine() -> None:
    def memory(settings: JobSettings) -> str:
        model = listed(SMALL)
        actors = actor_bytes(model, [engine_of(settings, model)])
        return check_memory(settings, ["answer"], Resources.equal(2, memory=6 * GB), actors, 0, 896)

    assert "fit its 4.3 GB" in vllm(SMALL, 0).check()
    with pytest.raises(SettingsError, match=r"^generate.pool.max: about 6\.\d GB for models and vectors"):
        memory(sized(0))
    assert "about 3." in memory(sized(0, vllm={"kv_cache_memory_bytes": GB}))


def test_arguments_that_decide_how_fast_answers_come_dont_decide_a_run() -> None:
    given = {"max_num_seqs": 8, "gpu_memory_utilization": 0.2, "quantization": "fp8"}
    assert arguments.deciding(given) == {"quantization": "fp8"}


@pytest.mark.parametrize(("given", "blocks"), [({}, 2), ({"max_num_seqs": 1000}, 5)])
def test_an_engine_that_batches_by_itself_has_the_next_block_before_it_runs_empty(
    given: dict[str, int], blocks: int
) -> None:
    assert vllm(SMALL, 1, vllm=given).blocks_at_once(256) == blocks


def test_processes_that_compute_on_a_processor_keep_their_memory() -> None:
    assert vllm(SMALL, 0).environment() == KEEP_MEMORY
    assert vllm(SMALL, 0.5).environment() == {}


def test_answers_alone_get_the_gpus_and_questions_are_embedded_on_cpus() -> None:
    proposals = proposed(gpus(4), QWEN_05B, generate__engine="vllm", embed__pool__num_gpus=0.5)
    assert (proposals["generate.pool.num_gpus"], proposals["generate.pool.max"]) == (1, 4)
    assert proposals["embed.pool.num_gpus"] == 0


def test_a_run_shares_each_gpu_by_what_an_embedder_takes() -> None:
    known = proposed(gpus(2, 2), QWEN_05B, index=INDEX, generate__engine="vllm", cluster__gpu_gb=24)
    unknown = proposed(gpus(2, 2), QWEN_05B, index=INDEX, generate__engine="vllm")
    assert (known["embed.pool.num_gpus"], known["generate.pool.num_gpus"]) == (0.1, 0.9)
    assert (unknown["embed.pool.num_gpus"], unknown["generate.pool.num_gpus"]) == (0.2, 0.8)


def test_a_run_on_several_gpus_gets_one_embedder_so_that_each_generator_has_a_place() -> None:
    proposals = proposed(gpus(4, 2), QWEN_05B, index=INDEX, generate__engine="vllm", cluster__gpu_gb=24)
    assert (proposals.get("embed.pool.max", 1), proposals["generate.pool.max"]) == (1, 4)


def test_actors_of_several_gpus_stay_within_their_nodes() -> None:
    large = replace(QWEN_7B, weights=2 * QWEN_7B.weights)
    proposals = proposed(gpus(6, 2), large, generate__engine="vllm", cluster__gpu_gb=24)
    assert (proposals["generate.pool.num_gpus"], proposals["generate.pool.max"]) == (2, 2)
    few = proposed(gpus(2, 4), QWEN_05B, generate__engine="vllm", cluster__gpu_gb=24)
    assert few["generate.pool.max"] == 2


def test_a_model_that_only_the_gpus_set_can_hold_keeps_them() -> None:
    large = replace(QWEN_7B, weights=6 * QWEN_7B.weights)
    assigned = {"generate__engine": "vllm", "generate__pool__num_gpus": 6, "cluster__gpu_gb": 24}
    assert "generate.pool.num_gpus" not in proposed(gpus(6), large, **assigned)


def test_a_model_that_one_gpu_cant_hold_gets_several_and_embedders_stay_on_cpus() -> None:
    large = replace(QWEN_7B, weights=2 * QWEN_7B.weights)
    assigned = {"generate__engine": "vllm", "cluster__gpu_gb": 24, "embed__pool__num_gpus": 0.1}
    proposals = proposed(gpus(4), large, index=INDEX, **assigned)
    assert (proposals["generate.pool.num_gpus"], proposals["generate.pool.max"]) == (2, 2)
    assert proposals["embed.pool.num_gpus"] == 0


def test_the_kv_cache_has_the_room_that_vllm_made_on_a_gpu() -> None:
    # Measured on 0.45 of an H200 of 143,771 MiB with vLLM 0.32 and a model of this shape: 4,745,904 tokens.
    room = vllm(QWEN_05B, 0.45, 150.75).kv_cache_bytes(0.45, QWEN_05B.weights)
    assert room is not None
    assert room / 12_288 == pytest.approx(4_745_904, rel=0.005)


def test_of_vllms_arguments_those_decide_a_run_that_may_change_answers(settings: Settings, model: Path) -> None:
    generating = {"generate.engine": "vllm", "generate.model": model}
    before = ids(settings(**generating))
    assert ids(settings(**generating, generate__vllm__max_num_seqs=9, generate__vllm__enforce_eager=True)) == before
    assert ids(settings(**generating, generate__vllm__quantization="fp8")) != before
    assert ids(settings(generate__vllm__quantization="fp8")) == ids(settings())
