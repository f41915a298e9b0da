from collections.abc import Iterator
from itertools import cycle, repeat
from pathlib import Path

import pytest
import torch

from ragjob.errors import DependencyError
from ragjob.models import device
from ragjob.models.device import ENCODER, GENERATOR, choose_dtype, pick_device, run_batches
from tests.fakes import ScarceDevice


def measured(seconds: dict[torch.dtype, Iterator[float]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "product_seconds", lambda tokens, weights: next(seconds[tokens.dtype]))


@pytest.mark.parametrize("bfloat16_s", [0.7, 1.0, 1.5])
def test_auto_keeps_float32_where_bfloat16_is_slower_or_hardly_faster(
    bfloat16_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured({torch.float32: repeat(1.0), torch.bfloat16: repeat(bfloat16_s)}, monkeypatch)
    assert choose_dtype("auto", gpus=0) == "float32"


def test_auto_takes_bfloat16_where_it_is_half_as_fast_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured({torch.float32: repeat(1.0), torch.bfloat16: repeat(0.66)}, monkeypatch)
    assert choose_dtype("auto", gpus=0) == "bfloat16"


def test_a_machine_that_is_busy_at_times_doesnt_sway_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    measured({torch.float32: cycle([9.0, 9.0, 1.0]), torch.bfloat16: cycle([0.9, 9.0])}, monkeypatch)
    assert choose_dtype("auto", gpus=0) == "float32"


def test_auto_takes_float16_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_dtype("auto", gpus=0.5) == "float16"


def test_a_gpu_in_sight_is_used_only_by_whom_it_is_reserved_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    measured({torch.float32: repeat(1.0), torch.bfloat16: repeat(1.0)}, monkeypatch)
    assert [pick_device(gpus=0), pick_device(gpus=0.5)] == ["cpu", "cuda"]
    assert choose_dtype("auto", gpus=0) == "float32"


def test_a_gpu_that_is_reserved_and_isnt_there_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    assert pick_device(gpus=1) == "cpu"


def test_a_gpu_that_is_there_and_cant_be_used_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    (tmp_path / "nvidia0").touch()
    with pytest.raises(DependencyError, match=r"^num_gpus: PyTorch can't use the GPU of this node \(.+\): update"):
        pick_device(gpus=0.5)
    assert pick_device(gpus=0) == "cpu"


def test_a_dtype_asked_for_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "product_seconds", None)  # would fail if measured
    assert choose_dtype("bfloat16", gpus=0) == "bfloat16"


def test_a_generator_weighs_its_prompts_and_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    half = {128: 1.5, 16: 0.5}  # slower over many rows, twice as fast over few
    monkeypatch.setattr(
        device, "product_seconds", lambda tokens, weights: half[len(tokens)] if tokens.dtype == torch.bfloat16 else 1.0
    )
    prompts, answers = 400 / 128, 64 / 16
    gain = (prompts + answers) / (1.5 * prompts + 0.5 * answers)
    assert device.bfloat16_gain(GENERATOR) == pytest.approx(gain)
    assert choose_dtype("auto", gpus=0, kind=GENERATOR) == "float32"


def test_a_generator_takes_bfloat16_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_dtype("auto", gpus=1, kind=GENERATOR) == "bfloat16"


def test_a_product_takes_a_measurable_time() -> None:
    assert 0 < device.product_seconds(torch.ones(16, 64), torch.ones(64, 64)) < 1


def test_measuring_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    assert device.bfloat16_gain(ENCODER) > 0
    assert torch.get_num_threads() == before


def test_batches_hold_rows_of_like_length_longest_first() -> None:
    batches: list[list[int]] = []
    run_batches(batches.append, lengths=[5, 9, 1, 7, 3], batch_size=2)
    assert batches == [[1, 3], [0, 4], [2]]


def test_batches_hold_as_many_tokens_as_they_may_padding_counted() -> None:
    batches: list[list[int]] = []
    run_batches(batches.append, lengths=[5, 9, 1, 7, 3, 1, 1], batch_size=4, batch_tokens=14)
    assert batches == [[1], [3, 0], [4, 2, 5, 6]]


def test_a_row_longer_than_a_batch_may_be_is_one() -> None:
    batches: list[list[int]] = []
    run_batches(batches.append, lengths=[20, 3], batch_size=4, batch_tokens=14)
    assert batches == [[0], [1]]


def test_out_of_memory_halves_the_batches_and_loses_no_row() -> None:
    scarce = ScarceDevice(rows=3)
    run_batches(scarce.run, lengths=[1] * 10, batch_size=8)
    assert scarce.done == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


def test_one_row_that_is_too_much_for_memory_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run_batches(ScarceDevice(rows=0).run, lengths=[1, 1], batch_size=2)
