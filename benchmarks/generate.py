"""The `transformers` engine: against prefilling the same prompts one by one, and against one prompt at a time.

RAGJOB_BENCH_PROMPTS says how many prompts it answers together (12). The goals are for 64, which take some seven
minutes on two cores; with fewer rows in a step, reading the weights costs each of them more.
"""

import os
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.figures import GPUS, Figure, as_a_generator, seconds
from benchmarks.random_qwen2 import save_random_qwen2
from ragjob.config import Generate
from ragjob.engines.base import Completion, Failure, Request
from ragjob.engines.chat import Chat
from ragjob.engines.transformers.generator import CausalLM, load_model
from ragjob.models.device import silence_libraries

PROMPTS, GOAL_PROMPTS = int(os.environ.get("RAGJOB_BENCH_PROMPTS", "12")), 64
CHARS = range(456, 506)  # of a prompt: 400 tokens with those around it, give or take 20
NEW_TOKENS = 64
PREFILLED = 2  # prompts prefilled one by one, before and after


def figures(folder: Path) -> Iterator[Figure]:
    """Seconds a prompt, and tokens a second, of a model of 0.5B parameters with random weights."""
    yield from as_a_generator(measured, folder)


def measured(folder: Path) -> list[Figure]:
    """The figures, in this process."""
    silence_libraries()
    model = str(save_random_qwen2(folder / "model"))
    requests = [random_request(number) for number in range(PROMPTS)]
    floor = Prefill(model)
    settings = Generate().model_dump(include={"batch_size", "batch_tokens", "dtype", "temperature"})
    engine = CausalLM(model, max_new_tokens=NEW_TOKENS, threads=os.cpu_count() or 1, gpus=GPUS, **settings)
    floor(requests[:1])  # what the first pass alone has to do

    prefill = [floor(requests[:PREFILLED])]
    alone = [answer(engine, requests[:1])[1]]
    spent, ours = answer(engine, requests)
    prefill.append(floor(requests[-PREFILLED:]))
    alone.append(answer(engine, requests[-1:])[1])

    return [
        figure("s a prompt", spent / PROMPTS, prefill, "prefilled one by one", at_most=1.5),
        figure("tokens/s", ours, alone, "one at a time", at_least=3),
    ]


class Prefill:
    """The model in the folder `path`, called on one prompt after the other."""

    def __init__(self, path: str) -> None:
        self._model = load_model(path, "auto", GPUS)
        self._chat = Chat(path, NEW_TOKENS)

    @torch.inference_mode()
    def __call__(self, requests: list[Request]) -> float:
        """Seconds a prompt."""
        prompts = [torch.tensor([prompt], device=self._model.device) for prompt in self._chat.encode(requests)]
        spent = seconds(lambda: [self._model(prompt, logits_to_keep=1).logits.cpu() for prompt in prompts])
        return spent / len(prompts)


def answer(engine: CausalLM, requests: list[Request]) -> tuple[float, float]:
    """Seconds that `requests` take together, and tokens a second of their answers."""
    answers: list[Completion | Failure] = []
    spent = seconds(lambda: answers.extend(engine.generate(requests)))
    tokens = sum(completion.completion_tokens or 0 for completion in answers if isinstance(completion, Completion))
    return spent, tokens / spent


def random_request(number: int) -> Request:
    made = random.Random(number)
    return Request("", "".join(made.choices("abcdefgh ", k=made.choice(CHARS))), "", [])


def figure(
    unit: str,
    ours: float,
    baseline: list[float],
    baseline_name: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """`ours`, measured between the two of `baseline`."""
    ratios, middle = [ours / theirs for theirs in baseline], statistics.median(baseline)
    if PROMPTS < GOAL_PROMPTS:
        at_most = at_least = None
    name = f"transformers engine, {PROMPTS} prompts"
    return Figure(name, unit, ours, middle, baseline_name, ratios, at_most, at_least)
