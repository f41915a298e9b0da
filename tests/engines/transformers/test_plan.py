"""What a plan says of the transformers engine, and proposes for it."""

import json
from pathlib import Path

import pytest

from ragjob.commands.run import Run
from ragjob.config import JobSettings
from ragjob.engines.causal_lm import KEEP_MEMORY
from ragjob.errors import DataError, SettingsError
from ragjob.models.capacity import Model, Resources, Work
from ragjob.models.folder import find_folder
from ragjob.planning.memory import actor_bytes, check_memory
from ragjob.planning.proposals import FEWEST_ROWS
from tests.engines.proposing import cpus, gpus, proposed
from tests.engines.shapes import QWEN_05B, QWEN_7B, engine_of, given, listed
from tests.fakes import tiny_qwen2
from tests.planning.jobs import Settings, ids

GB = 10**9
# 500 numbers wide: 24 x 500 numbers of 4 bytes a token.
SMALL = Model(weights=GB, layers=1, width=500)


def memory(settings: JobSettings) -> str:
    model = listed(SMALL)
    actors = actor_bytes(model, [engine_of(settings, model)])
    return check_memory(settings, ["answer"], Resources.equal(16, 1), actors, 0, 500)


def test_a_batch_of_transformers_is_added_on_a_processor() -> None:
    generate = {"engine": "transformers", "batch_size": 2, "max_new_tokens": 300}
    assert memory(given(generate=generate)).startswith("about 4.3 GB")  # 4,000 tokens of 48,000 bytes
    assert memory(given(generate=generate | {"batch_tokens": 400})).startswith("about 4.1 GB")
    assert memory(given(generate=generate | {"pool": {"num_gpus": 1}})).startswith("about 4.1 GB")


def test_processes_that_compute_on_a_processor_keep_their_memory() -> None:
    on_cpus, on_gpu = (given(generate={"engine": "transformers", "pool": {"num_gpus": gpus}}) for gpus in (0, 0.5))
    assert engine_of(on_cpus, listed(QWEN_05B)).environment() == KEEP_MEMORY
    assert engine_of(on_gpu, listed(QWEN_05B)).environment() == {}


def test_a_model_that_cant_be_loaded_is_named_with_its_setting(tmp_path: Path) -> None:
    config = json.loads((tiny_qwen2(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of", "architectures": []}))
    engine = engine_of(given(generate__engine="transformers"), find_folder(str(tmp_path), "generate.model"))
    with pytest.raises(DataError, match=rf"^generate.model: {tmp_path} can't be loaded \([^\n]*name another model$"):
        engine.make("float32", threads=1)


def test_an_engine_that_is_given_its_batches_has_one_block_at_once() -> None:
    assert engine_of(given(generate__engine="transformers"), listed(QWEN_05B)).blocks_at_once(256) == 1


def test_a_generator_has_all_threads_of_its_node() -> None:
    proposals = proposed(cpus(16, nodes=4), QWEN_05B, generate__engine="transformers")
    assert (proposals["generate.pool.max"], proposals["embed.pool.max"]) == (4, 4)


def test_few_prompts_are_cut_into_the_smallest_blocks() -> None:
    few = proposed(cpus(32, 4), QWEN_05B, prompts=Work(100, 100), generate__engine="transformers")
    assert few["commit_rows"] == FEWEST_ROWS


def test_a_model_that_leaves_no_room_for_a_prompt_gets_no_batch_proposed() -> None:
    assigned = {"generate__engine": "transformers", "cluster__gpu_gb": 16}
    assert "generate.batch_tokens" not in proposed(gpus(1), QWEN_7B, **assigned)


@pytest.mark.parametrize(
    ("model", "stated", "tokens"), [(QWEN_05B, 32_768, 125_184), (QWEN_7B, 32_768, 25_585), (QWEN_7B, 20_000, None)]
)
def test_a_batch_of_transformers_fills_what_the_weights_leave(model: Model, stated: int, tokens: int | None) -> None:
    assigned = {"generate__engine": "transformers", "generate__batch_tokens": stated, "cluster__gpu_gb": 24}
    assert proposed(gpus(1), model, **assigned).get("generate.batch_tokens") == tokens


@pytest.mark.parametrize("key", ["generate.batch_size", "generate.batch_tokens"])
def test_the_size_of_batches_leaves_the_run_as_it_is(settings: Settings, model: Path, key: str) -> None:
    generating = {"generate.engine": "transformers", "generate.model": model}
    assert ids(settings(**generating, **{key: "9"})) == ids(settings(**generating))


def test_passages_and_answer_leave_room_for_the_question(settings: Settings, model: Path) -> None:
    generating = {"generate.engine": "transformers", "generate.model": model, "generate.max_new_tokens": 100}
    fits = settings(**generating, augment__max_context_tokens=400)
    line = "up to 400 tokens for passages and 100 for an answer; the model holds 512"
    assert Run.of(fits).task.engine.check_prompt() == line
    made = Run.of(settings(**generating, augment__max_context_tokens=412)).plan()
    with pytest.raises(
        SettingsError, match=r"^augment.max_context_tokens: 412 tokens for passages and 100 for an answer .* in"
    ):
        made.require()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{{ raise_exception('Only tools may be called') }}",
            "refuses a prompt: TemplateError: Only tools may be called",
        ),
        ("{% for i in range(99999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "can't be rendered"),
        ("{{ 'x' * 10 ** 10 }}", "refuses a prompt: it takes more than 0.5 GB"),
    ],
    ids=["refuses", "never ends", "is too large"],
)
def test_a_chat_template_that_takes_no_prompt_is_found(tmp_path: Path, template: str, reason: str) -> None:
    folder = tiny_qwen2(tmp_path)
    (folder / "chat_template.jinja").write_text(template)
    settings = given(generate={"engine": "transformers"}, augment={"max_context_tokens": 100})
    with pytest.raises(DataError, match=f"^generate.model: .*: the chat template {reason}"):
        engine_of(settings, find_folder(str(folder), "generate.model")).check_prompt()
