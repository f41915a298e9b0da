"""The `ragjob` command. The only module that prints, reads arguments or exits."""

import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, TextIO

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from job.errors import RagjobError, SettingsError, Stopped
from job.progress import as_event, fields, silent

if TYPE_CHECKING:
    from job.clean import Leftover
    from job.config import JobSettings
    from job.pipeline import Report
    from job.progress import Observe
    from job.progress import Progress as StageProgress

LINE_EVERY_S = 10  # between two lines of progress of a stage, where there is no terminal
SHOWN_ANSWERS = 4

app = typer.Typer(
    help="Answer a file of prompts from a corpus, in batch: each prompt exactly once, with its sources.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
out = Console(highlight=False, soft_wrap=True)
log = logging.getLogger(__name__)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file; `job.yaml` here, if there is one.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, as `a.b=value`. Repeat it for more.")
]
Command = Annotated[Literal["index", "load", "answer", "run"], typer.Option(help="Command to check for.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]


@app.command()
def plan(config: Config = None, assign: Assignments = None, command: Command = "run") -> None:
    """Check everything that a command needs, without starting it.

    Example: `ragjob plan --config job.yaml --set embed.pool.max=4`
    """
    from job.plan import check, identify

    task = identify(_settings(config, assign), command)
    found = check(task)
    for line in found.checks:
        mark = "[red]✗[/red]" if line.error else "[green]✓[/green]"
        out.print(mark, f"{line.name:<8}", escape(line.found))
    found.require()


@app.command()
def index(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Chunk and embed a corpus into a version below index.uri.

    Example: `ragjob index --set corpus.uri=books/ --set index.uri=index`
    """
    from job.pipeline import index

    _work(index, _settings(config, assign), quiet)


@app.command()
def load(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Load an index version into Chroma and verify it there.

    Example: `ragjob load --set index.uri=index --set chroma.url=http://localhost:8000`
    """
    from job.pipeline import load

    _work(load, _settings(config, assign), quiet)


@app.command()
def answer(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Answer prompts from an index that is there already.

    Example: `ragjob answer --config job.yaml --set prompts.uri=questions.csv`
    """
    from job.pipeline import answer

    _work(answer, _settings(config, assign), quiet)


@app.command()
def run(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Index the corpus, then answer the prompts from it.

    Example: `ragjob run --config job.yaml`
    """
    from job.pipeline import run

    _work(run, _settings(config, assign), quiet)


@app.command()
def clean(
    config: Config = None,
    assign: Assignments = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
) -> None:
    """List what jobs left that nothing needs any more, or remove it.

    Example: `ragjob clean --config job.yaml --yes`
    """
    from job.clean import clean

    found = clean(_settings(config, assign), remove=yes)
    for each in found:
        out.print(f"{each.kind:<10} {_size(each):>15}  {each.address}: {each.reason}", markup=False)
    end = "; `ragjob clean --yes` removes what is listed" if found and not yes else ""
    out.print(f"{len(found):,} {'removed' if yes else 'could go'}{end}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the index and the answers go.")] = Path("ragjob-demo"),
    quiet: Quiet = False,
) -> None:
    """Answer 34 questions about a small corpus that comes with the program.

    Example: `ragjob demo --folder /tmp/demo`
    """
    from job.config import JobSettings
    from job.pipeline import run
    from job.sample import CORPUS, PROMPTS

    settings = JobSettings.model_validate(
        {
            "corpus": {"uri": str(CORPUS)},
            "prompts": {"uri": str(PROMPTS), "id_column": "id"},
            "index": {"uri": str(folder / "index")},
            "output": {"uri": str(folder / "answers")},
            "chroma": {"path": str(folder / "chroma")},
        }
    )
    _show_answers(_work(run, settings, quiet).answers)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Manifest with a RayJob, or the chart's values.")],
    chart: Annotated[Path | None, typer.Option(help="Folder of the chart: FILE holds values for it.")] = None,
    release: Annotated[str, typer.Option(help="Name of the release, with --chart.")] = "ragjob",
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="By default the context's.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Create it, and don't wait for its end.")] = False,
) -> None:
    """Run the job on Kubernetes: create a RayJob, follow it, and exit as the job does.

    Example: `ragjob submit values.yaml --chart helm/ragjob`
    """
    from job.submit import read_manifest, render, submit

    documents = render(file, chart, release, namespace) if chart else read_manifest(file)
    submitted = submit(documents, namespace)
    print(f"RayJob {submitted.name} in namespace {submitted.namespace}; to stop it: {submitted.stop}", flush=True)
    if not detach:
        submitted.follow(lambda line: print(line, flush=True))


@app.command()
def schema() -> None:
    """Print the JSON schema of the settings.

    Example: `ragjob schema > job.schema.json`
    """
    from job.config import JobSettings

    print(json.dumps(JobSettings.model_json_schema(), indent=2))


@app.command()
def init(file: Annotated[Path, typer.Argument(help="File to write.")] = Path("job.yaml")) -> None:
    """Write a commented settings file to start from.

    Example: `ragjob init job.yaml`
    """
    from job.starter import STARTER

    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(STARTER)
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name another file") from error
    out.print(f"Wrote {file}. Set the four uris in it, then: ragjob plan && ragjob run")


def main() -> NoReturn:
    """Run the command line; every error of ours becomes one line and its exit code."""
    signal.signal(signal.SIGTERM, _stop)
    logging.getLogger("job").addHandler(events)
    logging.getLogger("job").setLevel(logging.INFO)
    with _own_stderr() as own:
        sys.exit(_exit_code(own))


def _exit_code(own: TextIO) -> int:
    error: RagjobError | None
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        # The parser turns KeyboardInterrupt into this code.
        error = Stopped("stopped; what is staged stays, run the same command again to go on") if code else None
    except RagjobError as ours:
        error = ours
    except Exception as other:  # noqa: BLE001 - stderr is ours here, so a traceback must be printed by us
        if not hasattr(other, "format_message"):  # a usage error of the command line's parser has it
            traceback.print_exc(file=own)
            return RagjobError.exit_code
        error = SettingsError(f"{other.format_message().removesuffix('.')}; `ragjob --help` shows the usage")
    if error is None:
        return 0
    print(f"ragjob: {' '.join(str(error).split())}", file=own)
    return error.exit_code


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """Keep stderr for our own lines: Ray writes notices of its own there, from native code too."""
    with os.fdopen(os.dup(2), "w", buffering=1) as own:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield own


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _settings(config: Path | None, assign: list[str] | None) -> "JobSettings":
    from job.config import load_settings

    here = Path("job.yaml")
    return load_settings(config or (here if here.is_file() else None), assign or [])


def _work(command: "Callable[[JobSettings, Observe], Report]", settings: "JobSettings", quiet: bool) -> "Report":
    start = time.monotonic()
    # Bars and the summary say more to a person than events do.
    events.setLevel(logging.WARNING if quiet or out.is_terminal else logging.INFO)
    if quiet:
        return command(settings, silent)
    with _Progress() as progress:
        report = command(settings, progress.observe)
    _summarise(report, time.monotonic() - start)
    return report


def _size(leftover: "Leftover") -> str:
    if leftover.size is None:
        return ""
    return f"{leftover.size:,} vectors" if leftover.kind == "collection" else decimal(leftover.size)


class _Events(logging.Handler):
    """Shows what the job logs, with its fields: text on a terminal, a JSON line elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        if out.is_terminal:
            print(record.getMessage(), *(f"{name}={value}" for name, value in fields(record).items()))
        else:
            print(json.dumps(as_event(record), default=str), flush=True)


events = _Events()


class _Progress:
    """Shows how far each stage is: bars on a terminal, elsewhere a JSON line now and then."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:>20}"),
            BarColumn(),
            TextColumn("{task.fields[rows]:>9,} rows {task.fields[rate]:>7,.0f}/s"),
            TimeRemainingColumn(compact=True),
        )
        self._bars = Progress(*columns, console=out, disable=not out.is_terminal, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._shares: dict[str, float] = {}

    def __enter__(self) -> "_Progress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def observe(self, progress: "StageProgress") -> None:
        now, stage = time.monotonic(), progress.stage
        if progress.share < self._shares.get(stage, 0):  # the next flow has a stage of that name, too
            for known in (self._started, self._told, self._tasks):
                known.pop(stage, None)
        self._shares[stage] = progress.share
        if progress.rows and stage not in self._started:
            self._started[stage] = self._told[stage] = now
        seconds = now - self._started.get(stage, now)
        rate = progress.rows / seconds if seconds else 0.0
        if out.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=1, rows=0, rate=0.0)
            self._bars.update(self._tasks[stage], completed=min(progress.share, 1), rows=progress.rows, rate=rate)
        elif stage in self._told and now - self._told[stage] >= LINE_EVERY_S:
            self._told[stage] = now
            left = seconds * (1 - progress.share) / progress.share if progress.share else None
            about = {"stage": stage, "rows": progress.rows, "rows_per_s": rate, "seconds_left": left}
            log.info("progress", extra=about)


def _summarise(report: "Report", seconds: float) -> None:
    if report.already_done:
        out.print(f"Already done: {report.rows:,} {_what(report)}, nothing was started.")
    elif report.costs:
        table = Table("stage", *(Column(name, justify="right") for name in _FIGURES), box=None)
        for cost in report.costs:
            rate = cost.rows / cost.seconds if cost.seconds else 0
            table.add_row(cost.stage, f"{cost.rows:,}", f"{cost.errors:,}", f"{cost.seconds:.1f}", f"{rate:,.0f}")
        out.print(table)
    if not report.already_done:
        kept = f", {report.kept:,} of them kept from an earlier attempt" if report.kept else ""
        out.print(f"{report.rows:,} {_what(report)}, {report.errors:,} errors, {seconds:.1f} s{kept}")
    if report.failures:
        out.print(*(f"  {name}: {error}" for name, error in report.failures), sep="\n", markup=False)
    if report.answers:
        out.print(f"tokens: {report.prompt_tokens:,} in prompts, {report.completion_tokens:,} in answers")
        if report.cached_share:
            out.print(f"prompt tokens found in the prefix cache: {report.cached_share:.0%}")
        out.print(f"answers: {report.answers}", markup=False)
    out.print(f"index version: {report.version}")


_FIGURES = ("rows", "errors", "worker s", "rows/s")


def _what(report: "Report") -> str:
    return "prompts" if report.answers else "chunks"


def _show_answers(uri: str) -> None:
    """Print a few answers with their sources, and how many of the expected passages were found."""
    import pyarrow.parquet as pq

    from job.sample import EXPECTED

    rows = pq.read_table(uri).to_pylist()
    for row in rows[:SHOWN_ANSWERS]:
        out.print(f"\n[bold]{row['prompt']}[/bold]\n  {row['answer']}")
        sources = zip(row["retrieved_uris"], row["retrieved_scores"], strict=True)
        for number, (source, score) in enumerate(sources, 1):
            out.print(f"  [{number}] {Path(source).name} ({score:.2f})", style="dim", markup=False)
    expected = [json.loads(line) for line in EXPECTED.read_text(encoding="utf-8").splitlines()]
    passages = {line["id"]: line["passage"] for line in expected if line["passage"]}
    texts = {row["prompt_id"]: "\n".join(row["retrieved_texts"]) for row in rows}
    found = sum(passage in texts[name] for name, passage in passages.items())
    out.print(f"\nThe expected passage is among the top 3 for {found} of {len(passages)} questions.")
