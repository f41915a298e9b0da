"""Flows that run in this process, without Ray: indexes and answers are made by the stages alone."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ragjob.commands import api
from ragjob.config import JobSettings
from ragjob.ledger import schema
from ragjob.runtime.flow import Step
from ragjob.stages.columns import Stage, check_columns, fits
from ragjob.stages.cost import Cost
from ragjob.stages.rows import count_errors

DOCUMENTS = {
    "depot.md": "The depot at Harrow Lane holds forty cars.",
    "fares.md": "A ticket to the harbour costs two pence.",
}
QUESTIONS = [f"What does ticket {number} cost?" for number in range(8)]
WITH_BLANKS = [QUESTIONS[0], " ", QUESTIONS[1], "", *QUESTIONS[2:6]]
BLANKS = [1, 3]

Execute = Callable[..., list[Cost]]
Asked = Callable[..., JobSettings]
Use = Callable[[Execute], None]


def here(blocks: list[pa.Table], steps: list[Step], *_: object) -> list[Cost]:
    """Take the blocks through all stages, here."""
    stages = [stage for step in steps for stage in step.make()]
    for rows in blocks:
        for stage in stages:
            rows = stage(rows)
    return []


def answering(blocks: list[pa.Table], steps: list[Step], *_: object) -> list[Cost]:
    """Read the prompts and stage them with nothing for an answer: no model, no search."""
    (read,), (write,) = steps[0].make(), steps[-1].make()
    count = failed = 0
    for unit in blocks:
        rows = read(unit)
        for field in [*schema.RETRIEVED, *schema.GENERATED, *schema.CITED]:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        count, failed = count + rows.num_rows, failed + count_errors(write(rows))
    return [Cost("write", count, failed, 0.5)]


def refusing(*_: object) -> list[Cost]:
    raise AssertionError("there was nothing to compute")


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def stage_then(ending: BaseException, execute: Execute = answering) -> Execute:
    """Stage all, then end as told."""

    def staging(*work: Any) -> list[Cost]:
        execute(*work)
        raise ending

    return staging


def as_stated(blocks: list[pa.Table], steps: list[Step], *_: object) -> list[Cost]:
    """Take the blocks through all stages; a stage must do with what it states that it needs, and add what it states."""
    check_columns([stage for step in steps for stage in step.stages], blocks[0].schema)
    stages = [stage for step in steps for stage in step.make()]
    assert [type(stage) for stage in stages] == [stage for step in steps for stage in step.stages]
    for rows in blocks:
        for stage in stages:
            given, rows = rows, stage(rows)
            assert_as_stated(stage, given, rows)
            alone = stage(given.select(stage.NEEDS.names)).select(stage.ADDS.names)
            assert alone.equals(rows.select(stage.ADDS.names)), f"{stage.NAME} needs more"
    return []


def assert_as_stated(stage: Stage, given: pa.Table, rows: pa.Table) -> None:
    assert set(rows.column_names) == (set(given.column_names) - stage.DROPS) | set(stage.ADDS.names), stage.NAME
    assert all(fits(given.schema.field(field.name).type, field.type) for field in stage.NEEDS), stage.NAME
    assert all(fits(rows.schema.field(field.name).type, field.type) for field in stage.ADDS), stage.NAME


def compute_by(patch: pytest.MonkeyPatch, execute: Execute) -> None:
    """Compute flows by another function, without Ray."""
    patch.setattr("ragjob.runtime.cluster.running", lambda size: nullcontext(lambda: None))
    for module in ("indexing", "sentences", "answering"):
        patch.setattr(f"ragjob.commands.{module}.execute", execute)


def of_index(corpus: Path, folder: Path, **more: dict[str, Any]) -> JobSettings:
    uris = {"corpus": {"uri": str(corpus)}, "index": {"uri": str(folder / "index")}}
    fixed = {"cluster": {"cpus": 2, "gpus": 0, "nodes": 1}, "embed": {"dtype": "float32"}}
    return JobSettings(**uris | fixed | more)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Execute], None]:
    """Compute flows by another function from now on."""
    return partial(compute_by, monkeypatch)


@pytest.fixture(scope="module")
def chroma(shared_chroma: str) -> str:
    return shared_chroma


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, corpus: Path, chroma: str) -> JobSettings:
    """An index that is made, and loaded into a server."""
    settings = of_index(corpus, tmp_path_factory.mktemp("made"), chroma={"url": chroma})
    with pytest.MonkeyPatch.context() as patch:
        compute_by(patch, here)
        api.index(settings)
    return settings


@pytest.fixture
def asked(made: JobSettings, tmp_path: Path) -> Callable[..., JobSettings]:
    """Settings to answer prompts from the index, in parts of three."""
    for name, prompts in {"fine": QUESTIONS, "blanks": WITH_BLANKS}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))

    def ask(name: str = "fine", **more: Any) -> JobSettings:
        uris = {"prompts": {"uri": str(tmp_path / f"{name}.jsonl")}, "output": {"uri": str(tmp_path / "out")}}
        return JobSettings(**made.model_dump() | {"commit_rows": 3} | uris | more)

    return ask
