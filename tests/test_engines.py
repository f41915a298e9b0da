import json
from pathlib import Path
from typing import Any

import pytest

from job import engines, fit
from job.cluster import Resources
from job.config import JobSettings
from job.errors import SettingsError
from job.models.files import Source
from job.models.folder import FolderFiles, find_folder

# Of Qwen2.5-0.5B: 2 x 24 layers x 2 KV heads x 64 numbers of 2 bytes are 12,288 bytes a token.
SHAPE = {"num_hidden_layers": 24, "hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2}
GB = 10**9


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "check_arguments", lambda arguments, gpus: None)  # has tests of its own


def model(folder: Path, **more: object) -> Source:
    (folder / "config.json").write_text(json.dumps(SHAPE | more))
    (folder / "model.safetensors").write_bytes(b"12")
    return find_folder(str(folder), "generate.model")


def of_weights(source: Source, weights: int) -> Source:
    """The same model with heavier weights."""
    files = source.files
    assert isinstance(files, FolderFiles)
    sizes = dict(files.sizes) | {"model.safetensors": weights}
    return Source(source.key, source.name, source.revision, FolderFiles(files.key, files.folder, sizes))


def vllm(gpus: float, gpu_gb: float | None = None, **generate: Any) -> JobSettings:
    """Settings for vLLM; a prompt takes 300 + 200 + 100 tokens."""
    sizes: dict[str, Any] = {"max_new_tokens": 100, "pool": {"num_gpus": gpus}} | generate
    return JobSettings(
        generate={"engine": "vllm"} | sizes, augment={"max_context_tokens": 300}, cluster={"gpu_gb": gpu_gb}
    )


def test_a_plan_says_how_many_prompts_fit_a_share_of_a_gpu(tmp_path: Path) -> None:
    heavy = of_weights(model(tmp_path), 1 * GB)
    # 24 GB x 0.5 x 0.9 - 1.5 - 1 = 8.3 GB; 600 tokens x 12,288 bytes = 7.37 MB
    found = engines.check_engine(vllm(0.5, 24), heavy)
    assert found == "vllm, about 1,125 prompts of 600 tokens fit its 8.3 GB of KV cache; at most 256 at once"


def test_several_gpus_hold_weights_and_cache_together(tmp_path: Path) -> None:
    heavy = of_weights(model(tmp_path), 10 * GB)
    assert "fit its 30.2 GB" in engines.check_engine(vllm(2, 24), heavy)


def test_a_model_that_leaves_no_room_for_one_prompt_is_refused_with_its_sizes(tmp_path: Path) -> None:
    heavy = of_weights(model(tmp_path), 4 * GB)
    with pytest.raises(SettingsError, match=r"^cluster.gpu_gb: of it 0.0 GB are left .* takes 7 MB \(600 tokens of"):
        engines.check_engine(vllm(0.25, 24), heavy)


def test_without_the_gpus_memory_a_plan_says_what_a_token_takes(tmp_path: Path) -> None:
    found = engines.check_engine(vllm(0.5), model(tmp_path))
    assert found == "vllm, 12,288 bytes of KV cache a token; with cluster.gpu_gb set, a plan says how many prompts fit"


@pytest.mark.parametrize(
    ("settings", "config", "cache"),
    [
        ({"dtype": "float32"}, {}, "24,576"),
        ({}, {"head_dim": 128}, "24,576"),
        ({}, {"num_key_value_heads": None}, "86,016"),
    ],
)
def test_the_cache_of_a_token_follows_from_the_models_config(
    tmp_path: Path, settings: dict[str, object], config: dict[str, object], cache: str
) -> None:
    assert f"vllm, {cache} bytes" in engines.check_engine(vllm(0.5, **settings), model(tmp_path, **config))


def test_a_model_that_doesnt_tell_its_shape_is_let_through(tmp_path: Path) -> None:
    silent = model(tmp_path, num_hidden_layers=None)
    assert "doesn't say how large its KV cache is" in engines.check_engine(vllm(0.5, 24), silent)


def test_on_a_processor_the_cache_counts_as_memory_of_the_machine(tmp_path: Path) -> None:
    source = model(tmp_path)
    assert "fit its 4.3 GB" in engines.check_engine(vllm(0), source)
    one_node = Resources(2, 0, 1, 6 * GB)
    with pytest.raises(SettingsError, match=r"^generate.pool.max: about 6\.\d GB for models and vectors"):
        fit.check_memory(vllm(0), ["answer"], one_node, source, source, 0)
    less = vllm(0, vllm={"kv_cache_memory_bytes": GB})
    assert "about 3." in fit.check_memory(less, ["answer"], one_node, source, source, 0)


def test_an_api_takes_no_memory_of_the_machine_but_its_workers(tmp_path: Path) -> None:
    heavy = of_weights(model(tmp_path), 90 * GB)
    settings = JobSettings(generate={"engine": "openai"}, embed={"model": "any"})
    light = model(tmp_path)
    assert "about 2.1 GB" in fit.check_memory(settings, ["answer"], Resources(2, 0, 1, 6 * GB), light, heavy, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "generate.openai.base_url: required by engine openai"),
        ({"openai": {"base_url": "http://a/v1"}, "pool": {"num_gpus": 1}}, "generate.pool.num_gpus: engine openai"),
        ({"openai": {"base_url": "http://a/v1"}, "revision": "main"}, "generate.revision: engine openai can't ask"),
    ],
)
def test_an_api_without_address_or_with_gpus_or_a_revision_is_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        engines.check_engine(JobSettings(generate={"engine": "openai"} | settings), None)


def test_arguments_that_decide_how_fast_answers_come_dont_decide_a_run() -> None:
    given = {"max_num_seqs": 8, "gpu_memory_utilization": 0.2, "quantization": "fp8"}
    assert engines.deciding(given) == {"quantization": "fp8"}
