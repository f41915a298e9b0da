import re
from pathlib import Path

import yaml

from ragjob.cli.starter import STARTER
from ragjob.config import JobSettings, load_settings

REQUIRED = ["corpus", "prompts", "index", "output"]


def starter(folder: Path, text: str = STARTER) -> JobSettings:
    (folder / "job.yaml").write_text(text)
    return load_settings(folder / "job.yaml", [])


def test_the_starter_sets_all_that_a_run_requires(tmp_path: Path) -> None:
    settings = starter(tmp_path).model_dump()
    assert [name for name in REQUIRED if not settings[name]["uri"]] == []


def test_what_the_starter_sets_beside_that_is_the_default(tmp_path: Path) -> None:
    apart = {key: {"uri"} for key in REQUIRED}
    assert starter(tmp_path).model_dump(exclude=apart) == JobSettings().model_dump(exclude=apart)


def test_the_starter_comments_out_what_is_the_default(tmp_path: Path) -> None:
    uncommented = re.sub(r"(?m)^(\s*)# ( *\w+:)", r"\1\2", STARTER)
    everything = starter(tmp_path, uncommented)
    assert everything.chroma.url == "http://chroma:8000"
    assert everything.model_dump(exclude={"chroma"}) == starter(tmp_path).model_dump(exclude={"chroma"})


def test_the_starter_keeps_the_order_of_the_settings() -> None:
    sections = list(yaml.safe_load(STARTER))
    assert sections == [name for name in JobSettings.model_fields if name in sections]
