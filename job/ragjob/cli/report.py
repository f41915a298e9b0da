"""What a command prints at its end."""

from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from ragjob.cli.output import out
from ragjob.errors import printable

if TYPE_CHECKING:
    from ragjob.commands.report import Leftover, Report
    from ragjob.planning.checks import Plan

FIGURES = ("rows", "errors", "worker s", "rows/s")


def show_summary(report: "Report", seconds: float) -> None:
    """Print what was done, what it cost, and what failed."""
    what = "prompts" if report.answers else "chunks"
    if report.already_done:
        out.print(f"Already done: {report.rows:,} {what}; nothing was started.")
    else:
        if report.costs:
            out.print(_costs(report))
        kept = f", {report.kept:,} of them kept from an earlier attempt" if report.kept else ""
        out.print(f"{report.rows:,} {what}, {report.errors:,} errors, {seconds:.1f} s{kept}")
    _show_failures(report.failures)
    for files in report.passed_over:
        out.print(printable(f"{files.setting}: {files}"), markup=False)
    _show_corpus(report)
    if report.answers:
        out.print(f"tokens: {report.prompt_tokens:,} in prompts, {report.completion_tokens:,} in answers")
        if report.cached_share:
            out.print(f"prompt tokens found in the prefix cache: {report.cached_share:.0%}")
        if report.wrong_citations:
            out.print(f"{report.wrong_citations:,} citations of passages that weren't given were left out")
        out.print(f"answers: {printable(report.answers)}", markup=False)
    out.print(f"index version: {report.version}")


def _show_failures(failures: list[tuple[str, str]]) -> None:
    for name, error in failures:
        out.print(printable(f"  {name}: {error}"), markup=False)


def _show_corpus(report: "Report") -> None:
    """Print which parts of the corpus can't be found, or hardly."""
    if report.answers and report.failed_documents:
        out.print(
            f"{report.failed_documents:,} documents failed; they are only partly in the index, or not at all "
            "(its documents.parquet lists all of them):"
        )
        _show_failures(report.document_failures)
    if report.short_passages:
        out.print(f"{report.short_passages:,} short passages were left out of the index (see chunk.min_chars)")
    if report.unknown_documents:
        names = ", ".join(report.first_unknown) + ", …" * (report.unknown_documents > len(report.first_unknown))
        out.print(
            f"{report.unknown_documents:,} documents consist mostly of words that the embedding model doesn't know, "
            f"so searches will rarely find them; set embed.model to a model for their language: {names}",
            markup=False,
        )


def show_plan(plan: "Plan") -> None:
    """Print a line for each check."""
    from ragjob.planning.checks import Check, Failed, Warned

    marks = {Check: "[green]✓[/green]", Warned: "[yellow]![/yellow]", Failed: "[red]✗[/red]"}
    for check in plan.checks:
        out.print(marks[type(check)], f"{check.name:<8}", escape(printable(check.line)))


def show_leftovers(leftovers: list["Leftover"], *, removed: bool) -> None:
    """Print a line for each leftover, and what became of them."""
    for leftover in leftovers:
        line = f"{leftover.kind:<10} {_size(leftover):>15}  {printable(leftover.address)}: {printable(leftover.reason)}"
        out.print(line, markup=False)
    hint = "; `ragjob clean --yes` removes them" if leftovers and not removed else ""
    out.print(f"{len(leftovers):,} {'removed' if removed else 'can be removed'}{hint}")


def _costs(report: "Report") -> Table:
    """What each stage cost."""
    table = Table("stage", *(Column(name, justify="right") for name in FIGURES), box=None)
    for cost in report.costs:
        rate = cost.rows / cost.seconds if cost.seconds else 0
        table.add_row(cost.stage, f"{cost.rows:,}", f"{cost.errors:,}", f"{cost.seconds:.1f}", f"{rate:,.0f}")
    return table


def _size(leftover: "Leftover") -> str:
    if leftover.size is None:
        return ""
    return f"{leftover.size:,} vectors" if leftover.kind == "collection" else decimal(leftover.size)
