"""What a job is called follows from what it does, not from how its settings spell it."""

import shutil
from pathlib import Path

import pytest

from ragjob.cli.sample import CORPUS, PROMPTS
from ragjob.commands.run import Run
from ragjob.config import JobSettings
from tests.fakes import tiny_qwen2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model in `model`, and the same again in `copy`."""
    shutil.copytree(tiny_qwen2(tmp_path / "model"), tmp_path / "copy")
    return tmp_path


def identified(folder: Path, embed: str, generate: str) -> Run:
    uris = {"corpus": str(CORPUS), "prompts": str(PROMPTS), "index": str(folder / "index"), "output": str(folder)}
    sections = {name: {"uri": uri} for name, uri in uris.items()}
    models = {"embed": {"model": embed}, "generate": {"model": generate, "engine": "transformers"}}
    return Run.of(JobSettings(**sections, **models))


def names(run: Run) -> tuple[str, str]:
    """Index version and run id."""
    return run.index.ledger.version, run.task.ledger.run_id


def test_models_are_the_same_wherever_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    here = identified(folder, "./model", "model")
    there = identified(folder, str(folder / "model"), str(folder / "copy"))
    assert names(here) == names(there)
    embedder = here.index.embedder
    assert (embedder.label, there.index.embedder.label) == (
        f"./model@{embedder.revision}",
        f"{folder}/model@{embedder.revision}",
    )


def test_another_model_is_another_version_or_run(folder: Path) -> None:
    model, other = str(folder / "model"), str(tiny_qwen2(folder / "other", seed=1))
    first, embedded, generated = (
        names(identified(folder, *models)) for models in ((model, model), (other, model), (model, other))
    )
    assert embedded[0] != first[0] == generated[0]
    assert generated[1] != first[1]
