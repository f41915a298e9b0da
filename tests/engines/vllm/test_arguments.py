"""What vLLM would be given, without it: a source of its kind stands in for its own, which has what isn't checked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ragjob.engines.vllm import arguments
from ragjob.engines.vllm.arguments import check_arguments, engine_arguments
from ragjob.errors import SettingsError

SOURCE = '''
LATER = 1

class EngineArgs:
    """Arguments."""

    model: str = "some"
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = 0.9

    def create(self) -> None:
        inner: int = 3
'''


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A vLLM of two engine arguments, if it is looked for."""
    (tmp_path / "vllm" / "engine").mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "vllm" / "engine" / "arg_utils.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments._known_arguments.cache_clear()
    yield
    arguments._known_arguments.cache_clear()


def test_two_engines_on_a_quarter_of_a_gpu_each_leave_a_margin() -> None:
    given = engine_arguments("auto", 0.25, {})
    assert given["gpu_memory_utilization"] < 0.25
    assert given["gpu_memory_utilization"] == pytest.approx(0.225)
    assert (given["tensor_parallel_size"], given["dtype"]) == (1, "auto")


def test_whole_gpus_are_split_between_their_processes() -> None:
    given = engine_arguments("bfloat16", 4, {})
    names = ("tensor_parallel_size", "gpu_memory_utilization", "distributed_executor_backend")
    assert [given[name] for name in names] == [4, 0.9, "mp"]


def test_without_a_gpu_the_cache_is_limited_and_nothing_is_compiled() -> None:
    given = engine_arguments("float32", 0, {})
    assert (given["kv_cache_memory_bytes"], given["enforce_eager"]) == (4 * 2**30, True)
    assert "gpu_memory_utilization" not in given


@pytest.mark.parametrize("gpus", [0, 0.5, 2])
def test_prefixes_are_cached_and_what_is_set_goes_before_what_is_not(gpus: float) -> None:
    given = engine_arguments("auto", gpus, {"enforce_eager": False, "max_num_seqs": 8})
    assert (given["enable_prefix_caching"], given["enforce_eager"], given["max_num_seqs"]) == (True, False, 8)


def test_arguments_are_checked_by_vllms_own_names_without_importing_it(vllm: None) -> None:
    check_arguments({"max_num_seqs": 8, "gpu_memory_utilization": 0.2}, 0.25)
    with pytest.raises(
        SettingsError, match=r"^generate.vllm.max_num_seq: vLLM has no .*; did you mean max_num_seqs\?$"
    ):
        check_arguments({"max_num_seq": 8}, 1)
    with pytest.raises(
        SettingsError, match=r"^generate.vllm.inner: vLLM has no such engine argument; its documentation"
    ):
        check_arguments({"inner": 8}, 1)


@pytest.mark.parametrize(("name", "key"), [("model", "generate.model"), ("dtype", "generate.dtype")])
def test_an_argument_that_another_setting_says_is_refused(vllm: None, name: str, key: str) -> None:
    with pytest.raises(SettingsError, match=rf"^generate.vllm.{name}: use {key} instead$"):
        check_arguments({name: "any"}, 1)


@pytest.mark.parametrize("name", ["gpu_memory_utilization", "max_num_seqs"])
def test_what_a_plan_computes_with_is_a_number(vllm: None, name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^generate.vllm.{name}: must be a number, got '4e9'$"):
        check_arguments({name: "4e9"}, 1)


def test_a_vllm_for_gpus_wants_one(vllm: None) -> None:
    with pytest.raises(SettingsError, match=r"^generate.pool.num_gpus: 0, but the installed vllm needs a GPU"):
        check_arguments({}, 0)


def test_more_of_a_gpu_than_the_actors_share_is_refused(vllm: None) -> None:
    with pytest.raises(
        SettingsError, match=r"gpu_memory_utilization: 0.3 is more than the actor's share of a GPU, 0.25"
    ):
        check_arguments({"gpu_memory_utilization": 0.3}, 0.25)


def test_a_vllm_that_isnt_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    arguments._known_arguments.cache_clear()
    with pytest.raises(
        SettingsError, match=r"^generate.engine: vllm isn't installed: in the checkout, run `pip install"
    ):
        check_arguments({}, 1)


def test_a_models_own_code_is_never_run(vllm: None) -> None:
    assert engine_arguments("auto", 1, {})["trust_remote_code"] is False
    with pytest.raises(
        SettingsError, match=r"^generate.vllm.trust_remote_code: code that comes with a model is never run"
    ):
        check_arguments({"trust_remote_code": True}, 1)
