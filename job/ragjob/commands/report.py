"""How a command ended."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from ragjob.ledger import schema
from ragjob.ledger.run import RunManifest
from ragjob.planning.identity import AnswerTask, CommittedIndex, PendingIndex
from ragjob.stages.cost import Cost
from ragjob.storage import PassedOver

__all__ = [
    "Cost",
    "Leftover",
    "PassedOver",
    "Report",
    "log_start",
    "logged",
    "report_of_index",
    "report_of_run",
    "with_corpus",
]

log = logging.getLogger(__name__)

LISTED_ERRORS = 10
LISTED_UNKNOWN = 10


@dataclass(frozen=True)
class Leftover:
    """Something that a job has left behind and that is no longer needed.

    Attributes:
        kind: `staging` of a run, a `version` of an index, a `collection` in Chroma, or an unfinished `upload`.
        address: its uri; for a collection, its name.
        reason: why it can be removed.
        size: in bytes; for a collection, in vectors; None if unknown.
        remove: removes it and says whether it is gone. What a job has started to use again stays.
    """

    kind: Literal["staging", "collection", "version", "upload"]
    address: str
    reason: str
    size: int | None
    remove: Callable[[], bool] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Report:
    """How a command ended.

    Attributes:
        command: its name: `index`, `load`, `answer` or `run`.
        version: the index version that was made, loaded or answered from.
        rows: prompts of the run; without a run, chunks of the index version.
        errors: prompts with an error; without a run, documents with one.
        already_done: whether everything had been done before, so that nothing was started.
        run_id: the run's name; empty without a run.
        answers: uri of the run's `answers.parquet`; empty without a run.
        kept: prompts whose answers came from an earlier attempt.
        prompt_tokens: tokens in the prompts of the whole run, as the engine counts them.
        completion_tokens: tokens in its answers.
        costs: the cost of each stage that ran.
        failures: ids and errors of at most ten failed prompts or documents.
        passed_over: files of corpus and prompts that were skipped, counted by reason and extension.
        short_passages: passages left out of the index because they are too short; 0 if no index was made.
        failed_documents: documents of the corpus with an error; 0 for a run that made no index.
        document_failures: ids and errors of at most ten of these.
        unknown_documents: documents most of whose words the embedding model doesn't know; 0 if no index was made.
        first_unknown: ids of at most ten of these documents.
    """

    command: str
    version: str
    rows: int
    errors: int
    already_done: bool = False
    run_id: str = ""
    answers: str = ""
    kept: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    costs: list[Cost] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    short_passages: int = 0
    failed_documents: int = 0
    document_failures: list[tuple[str, str]] = field(default_factory=list)
    unknown_documents: int = 0
    first_unknown: list[str] = field(default_factory=list)

    @property
    def cached_share(self) -> float:
        """Share of the prompt tokens that this attempt's engine found in its prefix cache."""
        read = sum(cost.prompt_tokens for cost in self.costs)
        return sum(cost.cached_tokens for cost in self.costs) / read if read else 0.0

    @property
    def wrong_citations(self) -> int:
        """Passages that this attempt's answers cite but weren't given; `citations` leaves them out."""
        return sum(cost.wrong_citations for cost in self.costs)


def report_of_index(command: str, index: CommittedIndex, costs: list[Cost]) -> Report:
    """The report of a version that is committed."""
    manifest = index.manifest
    rows, errors = manifest.chunks, manifest.failed
    report = with_corpus(Report(command, manifest.version, rows, errors, costs=costs), index)
    return replace(report, failures=report.document_failures, passed_over=index.passed_over)


def with_corpus(report: Report, index: CommittedIndex) -> Report:
    """`report`, with what `index` knows about documents that failed or that searches hardly find."""
    manifest, first, failures = index.manifest, [], []
    if manifest.unknown_documents:
        documents = index.ledger.unknown_documents().slice(0, LISTED_UNKNOWN)
        first = documents[schema.DOCUMENT_ID].to_pylist()
    if manifest.failed:
        errors = index.ledger.errors().slice(0, LISTED_ERRORS)
        failures = list(zip(errors[schema.DOCUMENT_ID].to_pylist(), errors[schema.ERROR].to_pylist(), strict=True))
    return replace(
        report,
        short_passages=manifest.short_passages,
        failed_documents=manifest.failed,
        document_failures=failures,
        unknown_documents=manifest.unknown_documents,
        first_unknown=first,
    )


def report_of_run(
    command: str,
    index: PendingIndex | CommittedIndex,
    task: AnswerTask,
    published: RunManifest,
    costs: list[Cost] | None = None,
    *,
    kept: int = 0,
    already_done: bool = False,
) -> Report:
    """The report of a run that this attempt or another has published. What else is left of the run is removed."""
    task.ledger.sweep()
    return Report(
        command,
        task.version,
        rows=published.rows,
        errors=published.errors,
        already_done=already_done,
        run_id=task.ledger.run_id,
        answers=task.ledger.answers,
        kept=kept,
        prompt_tokens=published.prompt_tokens,
        completion_tokens=published.completion_tokens,
        costs=costs or [],
        failures=task.ledger.errors(LISTED_ERRORS) if published.errors else [],
        passed_over=[*index.passed_over, *task.prompts.passed_over],
    )


def log_start(command: str, version: str, run_id: str = "") -> None:
    """Say in the log that an attempt begins."""
    log.info("started", extra={"command": command, "index_version": version, "run_id": run_id})


def logged(report: Report) -> Report:
    """Log `report`, and return it."""
    for cost in report.costs:
        log.info("stage", extra=asdict(cost))
    for files in report.passed_over:
        log.info("passed over", extra=asdict(files))
    corpus = {
        "failed_documents": report.failed_documents,
        "short_passages": report.short_passages,
        "unknown_documents": report.unknown_documents,
    }
    log.info("done", extra={"rows": report.rows, "errors": report.errors, "kept": report.kept, **corpus})
    return report
