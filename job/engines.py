"""What a plan says of the engine that generates: whether it can run, and how much it holds."""

from collections.abc import Mapping
from typing import Any

from job.config import JobSettings
from job.errors import SettingsError
from job.models import sizes
from job.models.files import Source
from job.models.generation import VLLM_SEQUENCES
from job.models.vllm_arguments import CPU_KV_BYTES, MEMORY_MARGIN, check_arguments

ACTIVATION_BYTES = 1_500_000_000  # what vLLM keeps for a step beside weights and KV cache, about
# Numbers of a model's width that one pass holds for each token: three of an MLP five times as wide, queries, keys,
# values, what goes in and what comes out.
ACTIVATIONS = 24
SINGLE, HALF = 4, 2  # bytes of a number in single and half precision
QUESTION_TOKENS = 200  # of a question and what stands around it, about
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


def deciding(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of vLLM's engine arguments that may change answers."""
    return {name: value for name, value in arguments.items() if name not in HOW}


def check_engine(settings: JobSettings, model: Source | None) -> str:
    """Say what the engine of a run needs. Raises when it isn't there, or its model doesn't fit its share of a GPU."""
    generate = settings.generate
    if generate.engine == "openai":
        return _check_api(settings)
    if generate.engine == "vllm" and model:
        check_arguments(generate.vllm, generate.pool.num_gpus)
        return f"vllm, {_check_sequences(settings, model)}"
    return generate.engine


def _check_api(settings: JobSettings) -> str:
    generate = settings.generate
    api = generate.openai
    if api.base_url is None:
        raise SettingsError("generate.openai.base_url: required by engine openai; set it, as http://HOST:8000/v1")
    if generate.revision:
        raise SettingsError("generate.revision: engine openai can't ask for one; leave it out")
    if generate.pool.num_gpus:
        raise SettingsError("generate.pool.num_gpus: engine openai computes elsewhere; set it to 0")
    from job.models.openai_api import check_api  # imports openai, which a finished job never needs

    return check_api(model=generate.model, base_url=api.base_url, api_key_env=api.api_key_env, timeout_s=api.timeout_s)


def _check_sequences(settings: JobSettings, model: Source) -> str:
    """How many prompts vLLM's KV cache holds at once, each with its answer. Raises when that is none."""
    pool = settings.generate.pool
    single = settings.generate.dtype == "float32" or (settings.generate.dtype == "auto" and not pool.num_gpus)
    token = sizes.kv_bytes_a_token(model, SINGLE if single else HALF)
    if token is None:
        return f"{model.name} doesn't say how large its KV cache is"
    room = kv_cache_bytes(settings, sizes.weights_bytes(model))
    if room is None:
        return f"{token:,} bytes of KV cache a token; with cluster.gpu_gb set, a plan says how many prompts fit"
    tokens = sequence_tokens(settings)
    fit = int(room / (token * tokens))
    if fit < 1:
        key = "cluster.gpu_gb" if pool.num_gpus else "generate.vllm.kv_cache_memory_bytes"
        raise SettingsError(
            f"{key}: of it {max(room, 0) / 1e9:.1f} GB are left for the KV cache of {model.name} beside its weights, "
            f"and one prompt takes {token * tokens / 1e6:,.0f} MB ({tokens:,} tokens of {token:,} bytes); raise "
            "generate.pool.num_gpus, or lower augment.max_context_tokens"
        )
    most = settings.generate.vllm.get("max_num_seqs", VLLM_SEQUENCES)
    return f"about {fit:,} prompts of {tokens:,} tokens fit its {room / 1e9:.1f} GB of KV cache; at most {most} at once"


def sequence_tokens(settings: JobSettings) -> int:
    """Tokens of the longest prompt with its answer, about."""
    return settings.augment.max_context_tokens + QUESTION_TOKENS + settings.generate.max_new_tokens


def batch_bytes(settings: JobSettings, model: Source) -> int:
    """Bytes that a batch of the `transformers` engine takes on a processor, at most, in single precision."""
    generate = settings.generate
    tokens = min(generate.batch_tokens, generate.batch_size * sequence_tokens(settings))
    return tokens * token_bytes(sizes.dimension(model), SINGLE, sizes.kv_bytes_a_token(model, SINGLE))


def token_bytes(width: int, number: int, cached: int | None) -> int:
    """Memory that a token of a batch takes in one pass of a model, whose numbers have `number` bytes."""
    return ACTIVATIONS * width * number + (cached or 0)


def kv_cache_bytes(settings: JobSettings, weights: int) -> float | None:
    """Bytes that one of vLLM's actors has for its KV cache; None where the GPUs' memory isn't known."""
    generate, gpus = settings.generate, settings.generate.pool.num_gpus
    stated: float | None = generate.vllm.get("kv_cache_memory_bytes", None if gpus else CPU_KV_BYTES)
    if stated is not None or settings.cluster.gpu_gb is None:
        return stated
    share = generate.vllm.get("gpu_memory_utilization", min(gpus, 1) * MEMORY_MARGIN)
    whole = max(1, int(gpus))
    return float(whole * (settings.cluster.gpu_gb * 1e9 * share - ACTIVATION_BYTES) - weights)
