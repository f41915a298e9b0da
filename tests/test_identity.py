"""What a job is called follows from what it does, not from how its settings spell it."""

import shutil
from pathlib import Path

import pytest

from job.config import JobSettings
from job.plan import Task, identify
from job.sample import CORPUS, PROMPTS
from tests.fakes import tiny_qwen2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model in `model`, and the same again in `copy`."""
    shutil.copytree(tiny_qwen2(tmp_path / "model"), tmp_path / "copy")
    return tmp_path


def identified(folder: Path, embed: str, generate: str) -> Task:
    uris = {"corpus": str(CORPUS), "prompts": str(PROMPTS), "index": str(folder / "index"), "output": str(folder)}
    sections = {name: {"uri": uri} for name, uri in uris.items()}
    models = {"embed": {"model": embed}, "generate": {"model": generate, "engine": "transformers"}}
    return identify(JobSettings(**sections, **models), "run")


def test_models_are_the_same_wherever_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    here = identified(folder, "./model", "model")
    there = identified(folder, str(folder / "model"), str(folder / "copy"))
    assert (here.version, here.run_id) == (there.version, there.run_id)
    assert (here.embed.label, there.embed.label) == (
        f"./model@{here.embed.revision}",
        f"{folder}/model@{here.embed.revision}",
    )


def test_another_model_is_another_version_or_run(folder: Path) -> None:
    model, other = str(folder / "model"), str(tiny_qwen2(folder / "other", seed=1))
    first, embedded, generated = (
        identified(folder, *names) for names in ((model, model), (other, model), (model, other))
    )
    assert embedded.version != first.version == generated.version
    assert generated.run_id != first.run_id
