"""The sample that `ragjob demo` runs on: its parts fit together."""

import json
from pathlib import Path

from ragjob.cli.sample import CORPUS, EXPECTED, PROMPTS


def lines(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_each_prompt_has_what_is_expected_for_it() -> None:
    assert [line["id"] for line in lines(PROMPTS)] == [line["id"] for line in lines(EXPECTED)]


def test_each_expected_passage_stands_in_its_document() -> None:
    answered = [line for line in lines(EXPECTED) if line["passage"]]
    assert [line["id"] for line in answered if line["passage"] not in text_of(line["document"])] == []


def text_of(document: str) -> str:
    return (CORPUS / document).read_text("utf-8")


def test_some_prompts_have_no_answer_in_the_corpus() -> None:
    assert len([line for line in lines(EXPECTED) if not line["passage"]]) == 4
