"""What the command line takes, prints and exits with; the work behind it is replaced, since other tests do it."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from job import cli
from job.cluster import Resources
from job.config import JobSettings
from job.errors import DataError, DependencyError, RagjobError, SettingsError, Stopped, TooManyFailures
from job.pipeline import Report
from job.plan import Check, Plan
from job.progress import Observe, Progress
from job.sample import EXPECTED, PROMPTS
from job.stages.rows import Cost
from job.starter import STARTER

log = logging.getLogger("job.pipeline")
DONE = Report("run", "v1", 1200, 0, run_id="r1", answers="out/r1/answers.parquet")
Ragjob = Callable[..., tuple[int, str]]
Command = Callable[[JobSettings, Observe], Report]


@pytest.fixture
def ragjob(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ragjob]:
    """Run the command line here, in a folder of its own; gives its exit code and what it says on stderr."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("job")
    level = logger.level
    logger.addHandler(cli.events)
    logger.setLevel(logging.INFO)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ragjob", *map(str, arguments)])
        own = io.StringIO()
        return cli._exit_code(own), own.getvalue()

    yield run
    logger.removeHandler(cli.events)
    logger.setLevel(level)


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `ragjob run` do this from now on: raise an error, log, report progress, and end with a report."""

    def replace(report: Report = DONE, error: BaseException | None = None, steps: list[Progress] | None = None) -> None:
        def command(settings: JobSettings, observe: Observe) -> Report:
            log.info("started", extra={"command": "run"})
            log.warning("server died", extra={"code": 9})
            for step in steps or []:
                observe(step)
            if error:
                raise error
            return report

        monkeypatch.setattr("job.pipeline.run", command)

    return replace


Doing = Callable[..., None]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The events among what was printed, without their times."""
    found = [json.loads(line) for line in lines(capsys) if line.startswith("{")]
    return [{name: value for name, value in event.items() if name != "time"} for event in found]


# Exit codes and errors


@pytest.mark.parametrize("kind", [SettingsError, DependencyError, DataError, TooManyFailures, Stopped])
def test_an_error_of_ours_is_one_line_with_its_own_exit_code(
    ragjob: Ragjob, doing: Doing, kind: type[RagjobError]
) -> None:
    doing(error=kind("corpus.uri: nothing\n  there"))
    assert ragjob("run") == (kind.exit_code, "ragjob: corpus.uri: nothing there\n")


def test_the_exit_codes_are_the_designs() -> None:
    kinds = [RagjobError, SettingsError, DependencyError, DataError, TooManyFailures, Stopped]
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5, 130]


def test_an_error_that_isnt_ours_shows_its_traceback(ragjob: Ragjob, doing: Doing) -> None:
    doing(error=ZeroDivisionError("a bug"))
    code, said = ragjob("run")
    assert (code, said.splitlines()[0], said.splitlines()[-1]) == (
        1,
        "Traceback (most recent call last):",
        "ZeroDivisionError: a bug",
    )


def test_an_interrupt_says_how_to_go_on(ragjob: Ragjob, doing: Doing) -> None:
    doing(error=KeyboardInterrupt())
    stopped = "ragjob: stopped; what is staged stays, run the same command again to go on\n"
    assert ragjob("run") == (130, stopped)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["walk"], "No such command 'walk'; `ragjob --help` shows the usage"),
        (["run", "--fast"], "No such option: --fast"),
        (["run", "--set"], "Option '--set' requires an argument; `ragjob --help` shows the usage"),
        (["plan", "--command", "walk"], "Invalid value for '--command': "),
        (["run", "--set", "chunk.sise=3"], "chunk.sise: unknown setting; did you mean chunk.size"),
        (["run", "--config", "none.yaml"], "none.yaml: can't be read"),
        (["run"], "corpus.uri: required by `run`; set it in job.yaml or with --set corpus.uri=..."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_2(ragjob: Ragjob, arguments: list[str], said: str) -> None:
    code, told = ragjob(*arguments)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith(f"ragjob: {said}")


def test_without_a_command_the_help_is_shown(ragjob: Ragjob, capsys: pytest.CaptureFixture[str]) -> None:
    assert ragjob() == (0, "")
    assert "each prompt exactly once" in capsys.readouterr().out


# Settings


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[JobSettings]:
    """The settings that commands were given."""
    seen: list[JobSettings] = []

    def command(settings: JobSettings, observe: Observe) -> Report:
        seen.append(settings)
        return DONE

    for name in ("index", "load", "answer", "run"):
        monkeypatch.setattr(f"job.pipeline.{name}", command)
    return seen


@pytest.mark.parametrize("command", ["index", "load", "answer", "run"])
def test_assignments_win_over_the_file(ragjob: Ragjob, given: list[JobSettings], command: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("chunk: {size: 50, overlap: 5}")
    assert ragjob(command, "-c", "own.yaml", "--set", "chunk.size=60", "--set", "retrieve.top_k=4") == (0, "")
    assert (given[0].chunk.size, given[0].chunk.overlap, given[0].retrieve.top_k) == (60, 5, 4)


def test_job_yaml_in_this_folder_is_the_file_if_there_is_one(
    ragjob: Ragjob, given: list[JobSettings], tmp_path: Path
) -> None:
    ragjob("run")
    (tmp_path / "job.yaml").write_text("chunk: {size: 50}")
    ragjob("run")
    assert [settings.chunk.size for settings in given] == [200, 50]


# What is printed


def test_quiet_prints_nothing_but_warnings(ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]) -> None:
    doing()
    assert ragjob("run", "--quiet") == (0, "")
    (line,) = lines(capsys)
    assert json.loads(line)["event"] == "server died"


def test_events_are_json_lines_where_there_is_no_terminal(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    doing()
    ragjob("run")
    assert json_lines(capsys) == [
        {"level": "info", "event": "started", "command": "run"},
        {"level": "warning", "event": "server died", "code": 9},
    ]


def test_on_a_terminal_warnings_are_text_and_the_rest_is_left_to_the_bars(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "out", Console(force_terminal=True, width=100))
    doing(steps=[Progress("embed", 7, 0.5)])
    ragjob("run")
    printed = capsys.readouterr().out
    assert "server died code=9" in printed
    assert "embed" in printed
    assert "started" not in printed


def test_a_summary_has_a_line_for_each_stage_and_the_totals(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = [Cost("read", 1200, 1, 0.5), Cost("generate", 1200, 2, 60.0)]
    failures = [("p1", "prompt is blank"), ("p2", "[bold] isn't markup")]
    doing(
        Report(
            "run", "v1", 1200, 2, answers="out/a.parquet", kept=50, prompt_tokens=9000, costs=costs, failures=failures
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
        "tokens: 9,000 in prompts, 0 in answers",
        "answers: out/a.parquet",
        "index version: v1",
    ]


@pytest.mark.parametrize(("answers", "what"), [("out/a.parquet", "prompts"), ("", "chunks")])
def test_a_summary_of_nothing_to_do_says_so(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], answers: str, what: str
) -> None:
    doing(Report("run", "v1", 1200, 0, already_done=True, answers=answers))
    ragjob("run")
    assert f"Already done: 1,200 {what}, nothing was started." in lines(capsys)


# Progress


STEPS = [Progress("embed", 0, 0.0), Progress("embed", 10, 0.25), Progress("embed", 20, 0.5)]


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.cli.time", Clock([0, 100, 101, 103, 104]))
    monkeypatch.setattr(cli, "LINE_EVERY_S", 2)
    doing(steps=STEPS)
    ragjob("run")
    (line,) = [event for event in json_lines(capsys) if event["event"] == "progress"]
    about = {"stage": "embed", "rows": 20, "rows_per_s": 10.0, "seconds_left": 2.0}
    assert line == {"level": "info", "event": "progress", **about}


def test_progress_sooner_than_that_is_no_line(ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str]) -> None:
    doing(steps=STEPS)
    ragjob("run")
    assert [event["event"] for event in json_lines(capsys)] == ["started", "server died"]


def test_the_second_flows_stage_of_a_name_begins_anew(
    ragjob: Ragjob, doing: Doing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.cli.time", Clock([0, 100, 110, 200, 202, 300]))
    monkeypatch.setattr(cli, "LINE_EVERY_S", 2)
    doing(
        steps=[
            Progress("embed", 10, 0.5),
            Progress("embed", 20, 1),
            Progress("embed", 4, 0.1),
            Progress("embed", 8, 0.2),
        ]
    )
    ragjob("run")
    told = [event for event in json_lines(capsys) if event["event"] == "progress"]
    assert [(event["rows"], event["rows_per_s"], event["seconds_left"]) for event in told] == [(20, 2, 0), (8, 4, 8)]


class Clock:
    """Tells these seconds, one after another."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds

    def monotonic(self) -> float:
        return self._seconds.pop(0)


# The other commands


def planned(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> None:
    monkeypatch.setattr("job.plan.identify", lambda settings, command: command)
    monkeypatch.setattr("job.plan.check", lambda task: Plan(Resources(2, 0, 1, None), list(checks)))


def test_a_plan_shows_each_check(
    ragjob: Ragjob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(monkeypatch, Check("corpus", "2 documents [all] read"), Check("pools", "1 of 2 CPUs"))
    assert ragjob("plan") == (0, "")
    assert lines(capsys) == ["✓ corpus   2 documents [all] read", "✓ pools    1 of 2 CPUs"]


def test_a_plan_shows_all_that_is_wrong_and_ends_with_the_first(
    ragjob: Ragjob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = [DataError("prompts.uri: gone"), SettingsError("chroma.url: required")]
    wrong = [Check(name, str(error), error) for name, error in zip(["prompts", "chroma"], errors, strict=True)]
    planned(monkeypatch, Check("corpus", "fine"), *wrong)
    assert ragjob("plan") == (4, "ragjob: prompts.uri: gone\n")
    assert lines(capsys) == ["✓ corpus   fine", "✗ prompts  prompts.uri: gone", "✗ chroma   chroma.url: required"]


def test_the_schema_is_printed_as_json(ragjob: Ragjob, capsys: pytest.CaptureFixture[str]) -> None:
    assert ragjob("schema") == (0, "")
    assert json.loads(capsys.readouterr().out) == JobSettings.model_json_schema()


def test_init_writes_a_file_to_start_from_and_never_over_another(ragjob: Ragjob, tmp_path: Path) -> None:
    assert ragjob("init") == (0, "")
    assert (tmp_path / "job.yaml").read_text() == STARTER
    (tmp_path / "job.yaml").write_text("mine")
    assert ragjob("init") == (2, "ragjob: job.yaml: File exists; name another file\n")
    assert (tmp_path / "job.yaml").read_text() == "mine"


def test_the_demo_shows_answers_with_sources_and_counts_the_passages_found(
    ragjob: Ragjob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked, expected = ([json.loads(line) for line in file.read_text().splitlines()] for file in (PROMPTS, EXPECTED))
    found = [{"retrieved_texts": [f"Before. {line['passage']} After."]} for line in expected]
    rows = [
        {"prompt_id": line["id"], "prompt": line["prompt"], "answer": "So."} | here
        for line, here in zip(asked, found, strict=True)
    ]
    sources = {"retrieved_uris": ["corpus/origins.md"], "retrieved_scores": [0.756]}
    pq.write_table(pa.Table.from_pylist([row | sources for row in rows]), tmp_path / "answers.parquet")
    monkeypatch.setattr(
        "job.pipeline.run",
        lambda settings, observe: Report("run", "v1", 34, 0, answers=str(tmp_path / "answers.parquet")),
    )
    assert ragjob("demo") == (0, "")
    printed = lines(capsys)
    assert printed.count("  [1] origins.md (0.76)") == 4
    assert printed[-1] == "The expected passage is among the top 3 for 30 of 30 questions."


# As a process

NOISY = """
import os, signal, sys
from job import cli, pipeline
from job.errors import DataError
def run(settings, observe):
    os.write(2, b"noise of native code")
    print("noise of a library", file=sys.stderr)
    {ending}
pipeline.run = run
sys.argv = ["ragjob", "run", "--quiet"]
cli.main()
"""


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("raise DataError('corpus.uri: gone')", 4, "ragjob: corpus.uri: gone\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 130, "ragjob: stopped; what is staged stays, run the same command"),
    ],
    ids=["an error", "SIGTERM"],
)
def test_stderr_has_one_line_of_ours_whatever_libraries_write_there(ending: str, code: int, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NOISY.format(ending=ending)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1)
    assert ended.stderr.startswith(said)


def test_python_m_job_is_ragjob() -> None:
    ended = subprocess.run([sys.executable, "-m", "job", "walk"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "ragjob: No such command 'walk'; `ragjob --help` shows the usage\n")
