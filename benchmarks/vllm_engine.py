"""Time the `vllm` engine against a bare `vllm.LLM`, against the `transformers` engine, and with its cache off.

Run it with `make bench-vllm`. The model has Qwen2.5-0.5B's shape and random weights; prompts are random tokens.
RAGJOB_BENCH_PARTS names what to compare with (bare transformers cache), RAGJOB_BENCH_PROMPTS says how many prompts
(64), RAGJOB_BENCH_RUNS how many pairs with the bare LLM (3), RAGJOB_BENCH_ALONE how many prompts the `transformers`
engine answers (8), RAGJOB_BENCH_GPUS what share of a GPU the engines get (0). For the part `bare` there are also
RAGJOB_BENCH_TOKENS of a prompt (400) and of an answer, RAGJOB_BENCH_NEW (64), and RAGJOB_BENCH_SHAPE (0.5B, or 7B,
whose weights vLLM makes up).
"""

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import GPUS, as_a_generator
from benchmarks.random_qwen2 import save_random_qwen2, save_shape
from ragjob.engines.base import Completion, Request
from ragjob.engines.chat import Generated, Tokens
from ragjob.engines.vllm.generator import VLLMEngine

PROMPTS, RUNS, ALONE, TOKENS, NEW_TOKENS = (
    int(os.environ.get(f"RAGJOB_BENCH_{name}", default))
    for name, default in (("PROMPTS", 64), ("RUNS", 3), ("ALONE", 8), ("TOKENS", 400), ("NEW", 64))
)
SHAPE = os.environ.get("RAGJOB_BENCH_SHAPE", "0.5B")
GROUPS, SHARED_TOKENS = 8, 350
TINY_VOCABULARY = 500  # the tokenizer's plain tokens begin after its three special ones
HOW = {"dtype": "auto", "max_new_tokens": NEW_TOKENS, "temperature": 0.0, "threads": os.cpu_count() or 1, "gpus": GPUS}


def main() -> None:
    """Print each comparison as soon as it is made."""
    parts = os.environ.get("RAGJOB_BENCH_PARTS", "bare transformers cache").split()
    with tempfile.TemporaryDirectory() as model:
        if SHAPE == "0.5B":
            save_random_qwen2(Path(model))
            engine = open_engine(model)
        else:
            save_shape(Path(model), SHAPE)
            engine = open_engine(model, load_format="dummy")
        cache = engine.llm.llm_engine.vllm_config.cache_config
        print(f"the KV cache has room for {cache.num_gpu_blocks * cache.block_size:,} tokens", flush=True)
        bare_answers(engine, random_prompts(2))  # what happens at the first prompt only
        engine.run(random_prompts(2))
        for name, compare in COMPARISONS.items():
            if name in parts:
                compare(engine, model)


def open_engine(model: str, **arguments: object) -> VLLMEngine:
    return VLLMEngine(model, arguments={"max_model_len": max(1024, TOKENS + NEW_TOKENS), **arguments}, **HOW)


def compare_with_bare(engine: VLLMEngine, model: str) -> None:
    """The same prompts by the engine and by the LLM that it holds, in turn, nothing cached before either."""
    prompts = random_prompts(PROMPTS)
    ratios, same = [], True
    for number in range(1, RUNS + 1):
        ours, answers = timed(engine, lambda: engine.run(prompts))
        bare, expected = timed(engine, lambda: bare_answers(engine, prompts))
        same = same and [answer.tokens for answer in answers if isinstance(answer, Generated)] == expected
        tokens = sum(map(len, expected))
        ratios.append(bare / ours)
        print(f"pair {number}: engine {tokens / ours:.1f} tokens/s, bare LLM {tokens / bare:.1f} tokens/s", flush=True)
    print(f"engine / bare LLM: {spread(ratios)}; tokens {'equal' if same else 'DIFFER'}", flush=True)


def compare_with_transformers(engine: VLLMEngine, model: str) -> None:
    """Tokens a second by the engine, and by the `transformers` engine one prompt at a time."""
    from ragjob.engines.transformers.generator import CausalLM

    texts = ["".join(random.Random(number).choices("abcdefgh ", k=TOKENS * 6 // 5)) for number in range(PROMPTS)]
    requests = [Request("", text, "", []) for text in texts]
    seconds, answers = timed(engine, lambda: engine.generate(requests))
    together = count_tokens(answers) / seconds
    alone_engine = CausalLM(model, batch_size=1, batch_tokens=8192, **HOW)
    seconds, answers = timed(engine, lambda: alone_engine.generate(requests[:ALONE]))
    alone = count_tokens(answers) / seconds
    lengths = [answer.prompt_tokens or 0 for answer in answers if isinstance(answer, Completion)]
    print(f"{PROMPTS} prompts of {statistics.mean(lengths):.0f} tokens by vllm: {together:.1f} tokens/s", flush=True)
    print(f"{ALONE} by transformers, one at a time: {alone:.1f} tokens/s; ratio {together / alone:.2f}", flush=True)


def compare_with_cache_off(engine: VLLMEngine, model: str) -> None:
    """Prompts in groups that share their beginning, mixed, with the prefix cache and without it."""
    prompts = grouped_prompts(PROMPTS)
    with_cache, _ = timed(engine, lambda: engine.run(prompts))
    uncached = open_engine(model, enable_prefix_caching=False)
    without, _ = timed(engine, lambda: uncached.run(prompts))
    print(f"{PROMPTS} prompts in {GROUPS} groups that share {SHARED_TOKENS} of {TOKENS} tokens: {with_cache:.0f} s")
    print(f"with the prefix cache off: {without:.0f} s; with it {without / with_cache:.2f} times as fast")


def timed(engine: VLLMEngine, run: "Callable[[], list[object]]") -> tuple[float, list[object]]:
    """Seconds of `run` and what it gives, with an empty prefix cache."""
    engine.llm.reset_prefix_cache()
    start = time.perf_counter()
    outputs = run()
    return time.perf_counter() - start, outputs


def bare_answers(engine: VLLMEngine, prompts: list[Tokens]) -> list[Tokens]:
    """What a program that calls vLLM itself gets."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, stop_token_ids=engine.sampling.stop_token_ids)
    outputs = engine.llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def random_prompts(count: int, length: int = TOKENS) -> list[Tokens]:
    return [[random.Random(f"{n} {at}").randrange(3, TINY_VOCABULARY) for at in range(length)] for n in range(count)]


def grouped_prompts(count: int) -> list[Tokens]:
    """Prompts whose first `SHARED_TOKENS` are one of `GROUPS` beginnings, no two of a group in a row."""
    beginnings = random_prompts(GROUPS, SHARED_TOKENS)
    endings = random_prompts(count, TOKENS)
    return [beginnings[n % GROUPS] + ending[SHARED_TOKENS:] for n, ending in enumerate(endings)]


def count_tokens(answers: list[object]) -> int:
    return sum(answer.completion_tokens or 0 for answer in answers if isinstance(answer, Completion))


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


COMPARISONS = {"bare": compare_with_bare, "transformers": compare_with_transformers, "cache": compare_with_cache_off}

if __name__ == "__main__":
    as_a_generator(main)
