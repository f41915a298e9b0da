"""The commands, one function each. They import what they need only when they run, so `--help` stays fast."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ragjob.cli.output import out
from ragjob.errors import SettingsError, printable

if TYPE_CHECKING:
    from ragjob.commands.report import Report
    from ragjob.config import JobSettings

CommandName = Literal["index", "load", "answer", "run"]  # a test compares them with the registry's

app = typer.Typer(
    help="Answer a file of prompts from a corpus, in batch: every prompt exactly once, with its sources.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file. Default: `job.yaml` in the current folder, if there is one."),
]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, as in `a.b=value`. May be repeated.")
]
Command = Annotated[CommandName, typer.Option(help="The command to check.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show neither progress nor summary.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"ragjob {version('ragjob')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def plan(config: Config = None, assign: Assignments = None, command: Command = "run") -> None:
    """Check everything that a command needs, without running it.

    Example: `ragjob plan --config job.yaml --set embed.pool.max=4`
    """
    from ragjob.cli.report import show_plan
    from ragjob.commands.registry import COMMANDS

    plan = COMMANDS[command].of(_settings(config, assign)).plan()
    show_plan(plan)
    plan.require()


@app.command()
def index(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Chunk and embed a corpus into a version below index.uri.

    Example: `ragjob index --set corpus.uri=books/ --set index.uri=index`
    """
    _execute("index", lambda: _settings(config, assign), quiet=quiet)


@app.command()
def load(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Load an index version into Chroma and verify it there.

    Example: `ragjob load --set index.uri=index --set chroma.url=http://localhost:8000`
    """
    _execute("load", lambda: _settings(config, assign), quiet=quiet)


@app.command()
def answer(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Answer prompts from an existing index.

    Example: `ragjob answer --config job.yaml --set prompts.uri=questions.csv`
    """
    _execute("answer", lambda: _settings(config, assign), quiet=quiet)


@app.command()
def run(config: Config = None, assign: Assignments = None, quiet: Quiet = False) -> None:
    """Index the corpus, then answer the prompts from it.

    Example: `ragjob run --config job.yaml`
    """
    _execute("run", lambda: _settings(config, assign), quiet=quiet)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="Folder of a published run, local or on S3.", metavar="RUN")],
    labels: Annotated[
        str | None, typer.Option(help="Table of labels. Default: that of the run's last evaluation.", metavar="FILE")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Folder of another run of the same prompts to compare with.", metavar="RUN")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Column of the prompts; adds a table for each of its values.", metavar="COLUMN")
    ] = None,
    fail_under: Annotated[
        list[str] | None, typer.Option(help="Lowest mean that passes, such as `recall@3=0.9`. May be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
    assign: Assignments = None,
) -> None:
    """Measure a run against labels, or against another run.

    Example: `ragjob evaluate answers/3f2a --labels labels.jsonl --fail-under recall@3=0.9`
    """
    from ragjob.cli.evaluation import show_evaluation
    from ragjob.commands.evaluate import Evaluate

    command = Evaluate.of(_settings(config, assign), run, labels, against, by, fail_under or [])
    evaluation = command.execute()
    show_evaluation(evaluation, as_json=as_json)
    evaluation.require()


@app.command()
def tune(
    run: Annotated[str, typer.Argument(help="Folder of a published run, local or on S3.", metavar="RUN")],
    labels: Annotated[str, typer.Option(help="Table of labels with relevant documents or chunks.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
    assign: Assignments = None,
) -> None:
    """Find the retrieval settings that rank the labelled passages best.

    Example: `ragjob tune answers/3f2a --labels labels.jsonl`
    """
    from ragjob.cli.tuning import show_tuning
    from ragjob.commands.tune import Tune

    show_tuning(Tune.of(_settings(config, assign), run, labels).execute(), as_json=as_json)


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="A file of the corpus, local or on S3.", metavar="FILE")],
    rows: Annotated[int, typer.Option(help="How many documents to show, for a file with one in each row.", min=1)] = 3,
    full: Annotated[bool, typer.Option("--full", help="Print whole texts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
    assign: Assignments = None,
) -> None:
    """Show the blocks and chunks that a file yields, without embedding them.

    Example: `ragjob inspect books/guide.md --set chunk.size=120`
    """
    from ragjob.cli.inspection import show_inspection
    from ragjob.commands.inspect import Inspect

    inspection = Inspect.of(_settings(config, assign), file, rows).execute()
    show_inspection(inspection, full=full, as_json=as_json)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="The question to search for.", metavar="QUESTION")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
    assign: Assignments = None,
) -> None:
    """Show which passages of an index a question finds, and why.

    Example: `ragjob search "Where is the depot?" --set index.uri=index`
    """
    from ragjob.cli.search import show_hits
    from ragjob.commands.search import Search

    show_hits(Search.of(_settings(config, assign)).execute(question), as_json=as_json)


@app.command()
def clean(
    config: Config = None,
    assign: Assignments = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
) -> None:
    """List what jobs have left behind that is no longer needed, or remove it.

    Example: `ragjob clean --config job.yaml --yes`
    """
    from ragjob.cli.report import show_leftovers
    from ragjob.commands.api import clean

    show_leftovers(clean(_settings(config, assign), remove=yes), removed=yes)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the index and the answers go.")] = Path("ragjob-demo"),
    quiet: Quiet = False,
) -> None:
    """Answer 34 questions about a small corpus that comes with the program.

    Example: `ragjob demo --folder /tmp/demo`
    """

    def settings() -> "JobSettings":
        from ragjob.cli.demo import demo_settings

        return demo_settings(folder)

    answers = _execute("run", settings, quiet=quiet).answers
    from ragjob.cli.demo import show_answers

    show_answers(answers)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Manifest with a RayJob, or the chart's values.")],
    chart: Annotated[Path | None, typer.Option(help="Folder of the chart, if FILE holds values for it.")] = None,
    release: Annotated[str, typer.Option(help="Name of the Helm release, with --chart.")] = "ragjob",
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Namespace. Default: that of the current context.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Create the RayJob, and don't wait for it to end.")] = False,
) -> None:
    """Run the job on Kubernetes: create a RayJob, follow its log, and exit with its exit code.

    Example: `ragjob submit values.yaml --chart helm/ragjob`
    """
    from ragjob.kubernetes.submit import read_manifest, render, submit

    documents = render(file, chart, release, namespace) if chart else read_manifest(file)
    submitted = submit(documents, namespace)
    print(f"RayJob {submitted.name} in namespace {submitted.namespace}; to stop it: {submitted.stop}", flush=True)
    if not detach:
        submitted.follow(lambda line: print(printable(line), flush=True))


@app.command()
def schema() -> None:
    """Print the JSON schema of the settings.

    Example: `ragjob schema > ragjob.schema.json`
    """
    from ragjob.config import JobSettings

    print(json.dumps(JobSettings.model_json_schema(), indent=2))


@app.command()
def init(file: Annotated[Path, typer.Argument(help="File to write.")] = Path("job.yaml")) -> None:
    """Write a commented settings file to start from.

    Example: `ragjob init job.yaml`
    """
    from ragjob.cli.starter import STARTER

    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(STARTER)
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name another file") from error
    out.print(f"Wrote {file}. Set the four uris in it, then: ragjob plan && ragjob run")


def _settings(config: Path | None, assign: list[str] | None) -> "JobSettings":
    from ragjob.config import load_settings

    here = Path("job.yaml")
    return load_settings(config or (here if here.is_file() else None), assign or [])


def _execute(command: CommandName, settings: Callable[[], "JobSettings"], *, quiet: bool) -> "Report":
    from ragjob.cli.progress import progress

    start = time.monotonic()
    with progress(command, quiet=quiet) as observe:
        from ragjob.commands.registry import COMMANDS  # takes a while, during which the progress is on screen

        report = COMMANDS[command].of(settings()).execute(observe)
    if not quiet:
        from ragjob.cli.report import show_summary

        show_summary(report, time.monotonic() - start)
    return report
