from datetime import UTC, datetime
from typing import Any

import pytest

from ragjob.config import JobSettings
from ragjob.documents.units import Segment, estimate_chunks
from ragjob.errors import SettingsError
from ragjob.models.capacity import Model, Resources
from ragjob.planning.memory import actor_bytes, check_memory
from ragjob.storage.names import Entry
from tests.engines.shapes import engine_of, listed

GB = 10**9
NOW = datetime.now(UTC)
MODEL = listed(Model(weights=GB, layers=24, width=500), "embed.model")


def pools(**sizes: dict[str, Any]) -> JobSettings:
    """Settings with these pools; an actor takes a tenth of a CPU where none is said."""
    return JobSettings(**{name: {"pool": {"num_cpus": 0.1} | size} for name, size in sizes.items()})


def memory(size: int | None) -> Resources:
    return Resources.equal(16, memory=size)


def checked(settings: JobSettings, flow: str, size: Resources, chunks: int = 0) -> str:
    """What the check finds, of one model that embeds and, for answers, is quoted by."""
    engines = [engine_of(settings, MODEL, MODEL)] if flow == "answer" else []
    return check_memory(settings, [flow], size, actor_bytes(MODEL, engines), chunks, 500).split(";")[0]


def test_a_chunk_is_about_half_a_chunks_size_of_text() -> None:
    segment = Segment(Entry("a.md", "a.md", 4000, "tag", NOW, "a.md"), -1, 1, 4000)
    assert estimate_chunks(JobSettings().chunk, [segment, segment]) == 20


def test_models_and_vectors_are_added_up() -> None:
    line = checked(pools(embed={"max": 2}), "index", memory(10 * GB), 1_000_000)
    assert line == "about 8.4 GB for models and vectors"


def test_models_that_memory_cant_hold_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^generate.pool.max: about 7.5 GB .*, but a node has 4.0 GB; lower it"):
        checked(pools(generate={"max": 3}), "answer", memory(4 * GB))


def test_vectors_in_a_chroma_elsewhere_take_no_memory_here() -> None:
    settings = JobSettings(chroma={"url": "http://chroma:8000"})
    assert checked(settings, "index", memory(2 * GB), 10**9) == "about 1.7 GB for models and vectors"


def test_memory_that_isnt_known_is_no_limit() -> None:
    assert checked(JobSettings(), "index", memory(None), 10**9) == "about 5001.7 GB for models and vectors"


@pytest.mark.parametrize(
    ("retrieve", "gigabytes"),
    [({}, "6.4"), ({"sentences": False}, "2.4"), ({"mode": "dense"}, "5.8"), ({"mode": "lexical"}, "2.4")],
)
def test_the_index_takes_disk_for_what_the_mode_searches(retrieve: dict[str, object], gigabytes: str) -> None:
    line = check_memory(JobSettings(retrieve=retrieve), [], memory(None), {"retrieve": 0, "embed": 0}, 10**6, 500)
    assert line.endswith(f"; the index's files take about {gigabytes} GB of disk on each node")
