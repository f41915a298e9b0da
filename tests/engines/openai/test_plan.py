"""What a plan says of the openai engine, and proposes for it. No API is asked."""

from typing import Any

import pytest

from ragjob.commands.run import Run
from ragjob.engines import Engine, Generation
from ragjob.errors import SettingsError
from ragjob.models.capacity import Model, Resources
from ragjob.planning.memory import actor_bytes, check_memory
from tests.engines.proposing import cpus, proposed
from tests.engines.shapes import QWEN_05B, engine_of, given, listed
from tests.planning.jobs import Settings, ids

GB = 10**9


def openai(**generate: Any) -> Engine[Generation]:
    return engine_of(given(generate={"engine": "openai"} | generate), listed(QWEN_05B))


def test_an_api_gets_one_actor() -> None:
    proposals = proposed(cpus(8), QWEN_05B, generate__engine="openai", generate__pool__max=3)
    assert proposals == {"generate.pool.max": 1}


def test_an_api_takes_no_memory_of_the_machine_but_its_workers() -> None:
    light = listed(Model(weights=2, layers=24, width=896), "embed.model")
    actors = actor_bytes(light, [openai()])
    memory_line = check_memory(
        given(generate__engine="openai"), ["answer"], Resources.equal(2, memory=6 * GB), actors, 0, 896
    )
    assert "about 2.1 GB" in memory_line


@pytest.mark.parametrize(
    ("generate", "message"),
    [
        ({}, "generate.openai.base_url: required by engine openai"),
        ({"openai": {"base_url": "http://a/v1"}, "pool": {"num_gpus": 1}}, "generate.pool.num_gpus: engine openai"),
        (
            {"openai": {"base_url": "http://a/v1"}, "revision": "main"},
            "generate.revision: engine openai can't request a revision",
        ),
    ],
)
def test_an_api_without_address_or_with_gpus_or_a_revision_is_refused(
    generate: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        openai(**generate).check()


def test_an_api_counts_by_its_name_for_the_model() -> None:
    assert openai(model="small").label == "openai:small"
    assert openai(model="small").facts() == {"generate.model": "small"}


@pytest.mark.parametrize(("rows", "blocks"), [(256, 2), (10, 5)])
def test_an_api_has_the_next_block_before_it_runs_out_of_prompts(rows: int, blocks: int) -> None:
    assert openai().blocks_at_once(rows) == blocks


def test_an_api_needs_no_environment() -> None:
    assert openai().environment() == {}


def test_a_model_behind_an_api_counts_by_its_name(settings: Settings) -> None:
    asked = Run.of(settings(generate__engine="openai", generate__model="small"))
    assert asked.task.engine.label == "openai:small"
    small, large = (ids(settings(generate__engine="openai", generate__model=name)) for name in ("small", "large"))
    assert (small[0], small[1] != large[1]) == (large[0], True)


def test_an_engine_that_cannot_run_is_found_by_its_plan(settings: Settings) -> None:
    made = Run.of(settings(generate__engine="openai")).plan()
    with pytest.raises(SettingsError, match=r"^generate.openai.base_url: required by engine openai"):
        made.require()


@pytest.mark.parametrize(
    ("key", "value"),
    {"base_url": "http://vllm:8000/v1", "api_key_env": "OTHER_KEY", "concurrency": "9", "timeout_s": "9"}.items(),
)
def test_how_an_api_is_reached_leaves_the_run_as_it_is(settings: Settings, key: str, value: str) -> None:
    asked = {"generate.engine": "openai"}
    assert ids(settings(**asked, **{f"generate.openai.{key}": value})) == ids(settings(**asked))
