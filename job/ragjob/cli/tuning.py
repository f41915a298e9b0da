"""What `tune` prints."""

import json
from dataclasses import asdict

from rich.table import Column, Table

from ragjob.cli.output import out
from ragjob.commands.tune import HYBRID, LEXICAL, Setting, Tuning


def show_tuning(tuning: Tuning, *, as_json: bool) -> None:
    """Print the best settings and how much they gain, or everything that was found as JSON."""
    if as_json:
        print(json.dumps(asdict(tuning), indent=2))
        return
    out.print(f"{tuning.questions:,} labelled prompts, each ranked by settings that were chosen without it:")
    table = Table("metric", *(Column(name, justify="right") for name in ("now", "tuned")), box=None)
    for name, value in tuning.metrics.items():
        table.add_row(name, f"{tuning.current_metrics[name]:.4f}", f"{value:.4f}")
    out.print(table)
    mean, low, high = tuning.gain
    out.print(f"\nnDCG@10 changes by {mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f})")
    if low <= 0:
        out.print("That may be chance: keep the settings as they are, or label more prompts.")
    out.print("Settings that are best for all labelled prompts:")
    out.print(*(f"  --set {line}" for line in _assignments(tuning.best)), sep="\n", markup=False)
    if others := {setting for setting in tuning.chosen if setting != tuning.best}:
        out.print(
            f"For parts of the prompts, {len(others)} other combinations were best: similar settings are about as good."
        )


def _assignments(setting: Setting) -> list[str]:
    """The settings as assignments, without those that don't count in their mode."""
    values = {"mode": setting.mode}
    if setting.mode != LEXICAL:
        values |= {"sentences": str(setting.sentences).lower(), "candidates": str(setting.candidates)}
    if setting.mode == HYBRID:
        values |= {"fusion": setting.fusion, "lexical_weight": f"{setting.lexical_weight:g}"}
    return [f"retrieve.{name}={value}" for name, value in values.items()]
