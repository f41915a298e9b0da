"""`evaluate`: measure a published run against labels, and compare it with another run."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from ragjob import storage
from ragjob.config import JobSettings
from ragjob.documents.tables import ids_of, is_plain
from ragjob.errors import DataError, SettingsError
from ragjob.evaluation.comparison import compare
from ragjob.evaluation.labels import Labels, read_labels
from ragjob.evaluation.results import Change, Comparison, Evaluation, Figure, Figures, failures, figures
from ragjob.evaluation.scores import COLUMNS, METRICS, Scores, score
from ragjob.ledger import schema
from ragjob.ledger.files import read_if_there, read_parquet, to_json, to_parquet
from ragjob.ledger.manifests import EVALUATION_FORMAT, DamagedError, ManifestKind

__all__ = ["Change", "Comparison", "Evaluate", "Evaluation", "Figure", "Figures"]

MOST_GROUPS = 100
NO_VALUE = "(none)"  # the group of prompts for which the column is null

EVALUATIONS = ManifestKind(Evaluation, EVALUATION_FORMAT, "RUN", "name the labels with --labels")


@dataclass(frozen=True)
class Evaluate:
    """Measure a run, and write `_evaluation.json` and `_evaluation.parquet` beside its answers.

    Attributes:
        run: the run's folder.
        labels: file of the labels.
        against: folder of a run to compare it with.
        by: pass-through column by which prompts are grouped.
        limits: the lowest mean of each metric that passes; for `unanswered`, the highest.
    """

    run: str
    labels: str
    against: str | None
    by: str | None
    limits: dict[str, float]
    name: ClassVar[str] = "evaluate"

    @classmethod
    def of(
        cls,
        settings: JobSettings,
        run: str,
        labels: str | None = None,
        against: str | None = None,
        by: str | None = None,
        fail_under: Sequence[str] = (),
    ) -> Self:
        """The command for a run. Without `labels`, it uses those of the run's last evaluation.

        Raises `SettingsError` for a limit that isn't METRIC=VALUE, or when no labels are known.
        """
        storage.configure(settings.s3)
        limits = dict(_limit(text) for text in fail_under)
        run = storage.absolute(run).rstrip("/")
        against = storage.absolute(against).rstrip("/") if against else None
        return cls(run, storage.absolute(labels) if labels else _last_labels(run), against, by, limits)

    def execute(self) -> Evaluation:
        """Measure the run. `Evaluation.require` raises if it isn't good enough."""
        labels = read_labels(self.labels)
        answers = read_answers(self.run, "RUN", self.by)
        scores = score(self.run, answers, labels)
        _check_matches(labels, scores, self.labels, self.run)
        metrics = figures(scores.values)
        self._check_limits(metrics)
        against = None
        if self.against:
            other = score(self.against, read_answers(self.against, "--against"), labels)
            against = compare(scores, other, self.against)
        evaluation = Evaluation(
            run=self.run,
            labels=self.labels,
            prompts=answers.num_rows,
            labelled=int(scores.labelled.sum()),
            unused_labels=scores.unused_labels,
            passages=scores.passages,
            metrics=metrics,
            by=self.by,
            groups=_groups(answers, self.by, scores) if self.by else {},
            against=against,
            failed=failures(metrics, self.limits, against),
            format=EVALUATION_FORMAT,
        )
        _write(evaluation, scores)
        return evaluation

    def _check_limits(self, metrics: Figures) -> None:
        for name in self.limits.keys() - metrics.keys():
            raise SettingsError(
                f"--fail-under: this run and these labels give {', '.join(metrics)}, not {name}; name one of these"
            )


def _limit(text: str) -> tuple[str, float]:
    """The metric and the value of a limit, written as METRIC=VALUE."""
    parts = re.fullmatch(r"\s*([^=\s]+)\s*=\s*(\d*\.?\d+|\d+\.)\s*", text)
    if not parts or float(parts[2]) > 1:
        raise SettingsError(
            f"--fail-under: {text!r} isn't of the form recall@3=0.9, with a number from 0 to 1; correct it"
        )
    metric = parts[1].lower()
    if metric not in METRICS:
        raise SettingsError(f"--fail-under: there is no metric {parts[1]!r}; name one of {', '.join(METRICS)}")
    return metric, float(parts[2])


def _last_labels(run: str) -> str:
    uri = storage.join(run, "_evaluation.json")
    content = read_if_there(uri)
    if content is None:
        raise SettingsError(f"--labels: {run} hasn't been evaluated yet; name a file of labels")
    try:
        return EVALUATIONS.parse(content, uri).labels
    except DamagedError as error:
        raise DataError(f"RUN: {uri} can't be read: {error}; name the labels with --labels") from error


def read_answers(run: str, key: str, by: str | None = None, more: Sequence[str] = ()) -> pa.Table:
    """The columns of a run's answers that an evaluation needs, and `more`. `key` is the argument that names the run."""
    uri = storage.join(run, "answers.parquet")
    if by in schema.RESERVED:
        raise SettingsError(f"--by: {by} isn't a column of the prompts; name one that passes through to the answers")
    try:
        answers = read_parquet(uri, [*COLUMNS, *more, *([by] if by else [])])
    except storage.MissingError as error:
        raise DataError(f"{key}: {run} has no answers.parquet; name the folder of a published run") from error
    missing = {schema.PROMPT_ID, schema.PROMPT, schema.ANSWER, schema.RETRIEVED_IDS} - set(answers.column_names)
    if missing:
        raise DataError(f"{key}: {uri} isn't from a run: it has no column {min(missing)}; name the folder of a run")
    if by and by not in answers.column_names:
        raise SettingsError(f"--by: {uri} has no column {by!r}; name a column of the prompts")
    return answers


def _check_matches(labels: Labels, scores: Scores, uri: str, run: str) -> None:
    if not scores.labelled.any():
        raise DataError(
            f"--labels: none of the {len(labels.by_prompt):,} labels of {uri} has the {labels.key} of a prompt of "
            f"{run}; name the labels of this run's prompts"
        )


def _groups(answers: pa.Table, by: str, scores: Scores) -> dict[str, Figures]:
    """The figures for each value of a column, in the values' order."""
    if not is_plain(answers[by].type):
        raise SettingsError(f"--by: column {by!r} holds {answers[by].type}; name a column of plain values")
    try:
        written = ids_of(answers, by)
    except ValueError as error:
        raise SettingsError(f"--by: column {by!r} {error}; name another column") from error
    names = np.array([NO_VALUE if value is None else value for value in written])
    values = sorted(set(names.tolist()))
    if len(values) > MOST_GROUPS:
        raise SettingsError(
            f"--by: column {by!r} has {len(values):,} values, more than {MOST_GROUPS}; name a column with fewer"
        )
    groups = {value: names == value for value in values}
    return {
        value: figures({name: numbers[rows] for name, numbers in scores.values.items()})
        for value, rows in groups.items()
    }


def _write(evaluation: Evaluation, scores: Scores) -> None:
    """Write both files, the one with all figures last; null stands for a metric that doesn't apply to a prompt."""
    columns = {schema.PROMPT_ID: pa.array(scores.prompt_ids, pa.string())}
    for name in METRICS:
        if name in scores.values:
            columns[name] = pa.array(scores.values[name], from_pandas=True)
    storage.put(storage.join(evaluation.run, "_evaluation.parquet"), to_parquet(pa.table(columns)))
    storage.put(storage.join(evaluation.run, "_evaluation.json"), to_json(asdict(evaluation)))
