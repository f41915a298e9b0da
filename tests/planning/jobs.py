"""A small job on real files, as a plan looks at it."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from ragjob.commands.index import Index
from ragjob.commands.registry import Command
from ragjob.commands.run import Run
from ragjob.config import JobSettings, load_settings
from ragjob.errors import RagjobError
from ragjob.ledger import schema
from ragjob.ledger.index import About, set_current
from ragjob.planning.checks import Failed
from ragjob.planning.identity import PendingIndex

Settings = Callable[..., JobSettings]


@pytest.fixture
def model(tmp_path: Path, minilm: str) -> Path:
    return make_model(tmp_path / "model", minilm)


def make_model(folder: Path, minilm: str, weights: bytes = b"12") -> Path:
    """A model with MiniLM's tokenizer, 512 positions and two bytes of weights."""
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 512, "hidden_size": 8}')
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").write_bytes((Path(minilm) / "tokenizer.json").read_bytes())
    return folder


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> Settings:
    """Settings of a small job on two CPUs; `more` as on the command line."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "depot.md").write_text("The depot at Harrow Lane holds forty cars.")
    (tmp_path / "corpus" / "fares.csv").write_text("text,body,id\nA ticket costs two pence.,a,b\n")
    (tmp_path / "prompts.csv").write_text("prompt,asked,id\nWhere is the depot?,x,y\n")
    given = {
        "corpus.uri": tmp_path / "corpus",
        "prompts.uri": tmp_path / "prompts.csv",
        "index.uri": tmp_path / "index",
        "output.uri": tmp_path / "out",
        "embed.model": model,
        "cluster.cpus": 2,
        "cluster.gpus": 0,
        "cluster.nodes": 1,
    }

    def make(**more: object) -> JobSettings:
        named = given | {name.replace("__", "."): value for name, value in more.items()}
        return load_settings(None, [f"{name}={value}" for name, value in named.items()])

    return make


def ids(settings: JobSettings) -> tuple[str, str]:
    run = Run.of(settings)
    return run.index.ledger.version, run.task.ledger.run_id


def commit(settings: JobSettings, **other_facts: object) -> str:
    """Commit the index version of a corpus with one chunk, and make it the current one."""
    index = Index.of(settings).index
    assert isinstance(index, PendingIndex)
    row = {"chunk_id": "1", "document_id": "depot.md", "uri": "depot.md", "chunk_index": 0}
    row |= {"text": "The depot.", "embedding": [1, 0]}
    index.ledger.segment.write(pa.Table.from_pylist([row], pa.schema([*schema.CHUNKS, *schema.embedded(2)])))
    listing = schema.LISTING.empty_table()
    about = About(schema.digest(index.facts), index.facts | other_facts, index.embedder.label, listing)
    index.ledger.commit(index.ledger.segment.survey(), about)
    set_current(index.ledger.uri, index.ledger.version)
    return index.ledger.version


def check_lines(command: Command) -> dict[str, str]:
    """What each check of a plan found."""
    return {check.name: check.line for check in command.plan().checks}


def failed(command: Command) -> dict[str, type[RagjobError]]:
    """The checks of a plan that found an error, and of what class."""
    return {check.name: type(check.error) for check in command.plan().checks if isinstance(check, Failed)}
