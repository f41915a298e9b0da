"""What `evaluate` prints."""

import json
from dataclasses import asdict

from rich.table import Column, Table

from ragjob.cli.output import out
from ragjob.commands.evaluate import Change, Comparison, Evaluation, Figure, Figures


def show_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """Print the figures of a run as tables, or all that is known of it as JSON."""
    if as_json:
        print(json.dumps(asdict(evaluation), indent=2, ensure_ascii=False))
        return
    out.print(f"{evaluation.prompts:,} prompts, {evaluation.labelled:,} of them with a label")
    if evaluation.unused_labels:
        out.print(f"{evaluation.unused_labels:,} labels are for prompts that the run doesn't have")
    out.print(f"A prompt has at most {evaluation.passages} passages; recall beyond that is left out.")
    out.print(_figures(evaluation.metrics))
    for value, metrics in evaluation.groups.items():
        out.print(f"\n{evaluation.by} = {value}", markup=False)
        out.print(_figures(metrics))
    if evaluation.against:
        _show_comparison(evaluation.against)
    out.print(f"\nWritten to {evaluation.run}: _evaluation.json and _evaluation.parquet", markup=False)


def _figures(metrics: Figures) -> Table:
    table = Table("metric", *(Column(name, justify="right") for name in ("mean", "95 % interval", "n")), box=None)
    for name, figure in metrics.items():
        table.add_row(name, f"{figure.mean:.4f}", _interval(figure), f"{figure.n:,}")
    return table


def _interval(figure: Figure) -> str:
    return "" if figure.low is None else f"{figure.low:.4f} to {figure.high:.4f}"


def _show_comparison(comparison: Comparison) -> None:
    out.print(f"\nCompared with {comparison.run}: {comparison.prompts:,} prompts are in both runs", markup=False)
    if comparison.only_here or comparison.only_there:
        out.print(f"{comparison.only_here:,} are only in this run, and {comparison.only_there:,} only in the other")
    names = ("other run", "this run", "p", "wins", "losses", "ties")
    table = Table("metric", *(Column(name, justify="right") for name in names), "verdict", box=None)
    for name, difference in comparison.metrics.items():
        figures = (difference.against, difference.mean, difference.p_value)
        counts = (difference.wins, difference.losses, difference.ties)
        table.add_row(name, *(f"{x:.4f}" for x in figures), *(f"{x:,}" for x in counts), difference.verdict)
    out.print(table)
    if comparison.changes:
        out.print(f"\nThe {len(comparison.changes)} prompts that changed most:")
        out.print(*map(_change, comparison.changes), sep="\n", markup=False)


def _change(change: Change) -> str:
    prompt = " ".join((change.prompt or "").split())[:80]
    metrics = ", ".join(f"{name} {before:.2f} → {now:.2f}" for name, (before, now) in change.metrics.items())
    return f"  {change.prompt_id}  {prompt}\n    {metrics}"
