"""What commands print at their end."""

import logging

import pytest

from ragjob.cli.report import show_leftovers
from ragjob.commands.registry import COMMANDS
from ragjob.commands.report import Leftover, PassedOver, Report, logged
from ragjob.errors import DataError, SettingsError
from ragjob.planning.checks import Check, Failed, Warned
from ragjob.runtime.events import fields
from ragjob.stages.cost import Cost
from tests.cli.conftest import Command, Doing, Ragjob, lines


def test_a_summary_has_a_line_for_each_stage_and_the_totals(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = [Cost("read", 1200, 1, 0.5), Cost("generate", 1200, 2, 60.0, wrong_citations=1300)]
    failures = [("p1", "prompt is blank"), ("p2", "[bold] isn't markup")]
    passed_over = [PassedOver("corpus.uri", "no reader for this extension", ".png", 4, ["[a].png"])]
    doing(
        Report(
            "run",
            "v1",
            1200,
            2,
            answers="out/a.parquet",
            kept=50,
            prompt_tokens=9000,
            costs=costs,
            failures=failures,
            passed_over=passed_over,
        )
    )
    ragjob("run")
    printed = [" ".join(line.split()) for line in lines(capsys) if not line.startswith("{")]
    assert printed[:3] == ["stage rows errors worker s rows/s", "read 1,200 1 0.5 2,400", "generate 1,200 2 60.0 20"]
    assert printed[3].startswith("1,200 prompts, 2 errors, ")
    assert printed[3].endswith(" s, 50 of them kept from an earlier attempt")
    assert printed[4:] == [
        "p1: prompt is blank",
        "p2: [bold] isn't markup",
        "corpus.uri: passed over 4 files (.png), no reader for this extension: [a].png, ...",
        "tokens: 9,000 in prompts, 0 in answers",
        "1,300 citations of passages that weren't given were left out",
        "answers: out/a.parquet",
        "index version: v1",
    ]


def test_the_log_counts_what_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ragjob")
    logged(Report("index", "v1", 9, 0, passed_over=[PassedOver("corpus.uri", "hidden", ".txt", 4, ["_a.txt"])]))
    told = {"setting": "corpus.uri", "reason": "hidden", "extension": ".txt", "count": 4, "first": ["_a.txt"]}
    assert (caplog.messages[0], fields(caplog.records[0])) == ("passed over", told)


def test_the_summary_of_a_run_tells_which_documents_failed(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = [("scan.pdf", "no text layer; run OCR first")]
    doing(Report("run", "v1", 9, 0, answers="out/r/answers.parquet", failed_documents=12, document_failures=failures))
    ragjob("run")
    printed = lines(capsys)
    (first,) = [number for number, line in enumerate(printed) if line.startswith("12 documents failed; ")]
    assert printed[first + 1] == "  scan.pdf: no text layer; run OCR first"


def test_a_summary_tells_what_searches_hardly_find(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    doing(Report("run", "v1", 9, 0, short_passages=1200, unknown_documents=12, first_unknown=["a.md", "[b].md"]))
    ragjob("run")
    printed = " ".join(lines(capsys))
    assert "1,200 short passages were left out of the index (see chunk.min_chars)" in printed
    assert "12 documents consist mostly of words that the embedding model doesn't know" in printed
    assert "a.md, [b].md, …" in printed


@pytest.mark.parametrize(("answers", "what"), [("out/a.parquet", "prompts"), ("", "chunks")])
def test_a_summary_of_nothing_to_do_says_so(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], answers: str, what: str
) -> None:
    doing(Report("run", "v1", 1200, 0, already_done=True, answers=answers))
    ragjob("run")
    assert f"Already done: 1,200 {what}; nothing was started." in lines(capsys)


def planned(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    monkeypatch.setitem(COMMANDS, "run", Command(checks=list(checks)))


def test_a_plan_shows_each_check(
    ragjob: Ragjob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(monkeypatch, Check("corpus", "2 documents [all] read"), Warned("words", "most are unknown"))
    assert ragjob("plan") == (0, "")
    assert lines(capsys) == ["✓ corpus   2 documents [all] read", "! words    most are unknown"]


def test_a_plan_shows_all_that_is_wrong_and_ends_with_the_first(
    ragjob: Ragjob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [DataError("prompts.uri: gone"), SettingsError("chroma.url: required")]
    wrong = [Failed(name, str(error), error) for name, error in zip(["prompts", "chroma"], errors, strict=True)]
    planned(monkeypatch, Check("corpus", "fine"), *wrong)
    assert ragjob("plan") == (4, "ragjob: prompts.uri: gone\n")
    assert lines(capsys) == ["✓ corpus   fine", "✗ prompts  prompts.uri: gone", "✗ chroma   chroma.url: required"]


LEFTOVERS = [
    Leftover("version", "index/versions/v1", "not among the newest 3", 2_000_000, lambda: True),
    Leftover("collection", "corpus-v1", "its version is gone", 1200, lambda: True),
    Leftover("upload", "out/[r1]", "never ended", None, lambda: True),
]


@pytest.mark.parametrize(
    ("removed", "end"),
    [(False, "3 can be removed; `ragjob clean --yes` removes them"), (True, "3 removed")],
)
def test_leftovers_are_listed_with_their_sizes_and_reasons(
    capsys: pytest.CaptureFixture[str], removed: bool, end: str
) -> None:
    show_leftovers(LEFTOVERS, removed=removed)
    assert lines(capsys) == [
        "version             2.0 MB  index/versions/v1: not among the newest 3",
        "collection   1,200 vectors  corpus-v1: its version is gone",
        "upload                      out/[r1]: never ended",
        end,
    ]


def test_no_leftovers_need_no_removal(capsys: pytest.CaptureFixture[str]) -> None:
    show_leftovers([], removed=False)
    assert lines(capsys) == ["0 can be removed"]
