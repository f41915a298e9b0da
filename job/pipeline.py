"""The two flows, each one list of steps, and what happens around them."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from job import cluster, fit, inputs, ledger, schema, storage
from job.config import Chroma, JobSettings
from job.errors import DataError, DependencyError, RagjobError, TooManyFailures
from job.execution import Step, execute
from job.plan import Plan, Task, check, identify
from job.progress import Observe, Progress, silent
from job.stages import augment, chunk, embed, generate, retrieve
from job.stages.read import ReadDocuments, ReadPrompts
from job.stages.rows import Cost
from job.stages.write import WriteAnswers, WriteChunks

if TYPE_CHECKING:
    from job.store import Expected, Target

log = logging.getLogger(__name__)

LISTED_ERRORS = 10
NO_TEXT = (chunk.NO_TEXT, "text is blank", "text is null")  # begin the errors of documents that hold nothing
CHUNK_BYTES = 800  # text of a chunk, about: sizes the units of the corpus
NO_LIMIT = 2**62


@dataclass(frozen=True)
class Report:
    """How a command ended.

    `rows` are prompts, or chunks where nothing was answered; `kept` those that an earlier attempt had done;
    `costs` has an entry for each stage that ran, `failures` the ids and errors of the first failed rows.
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

    @property
    def cached_share(self) -> float:
        """Share of the prompt tokens that this attempt's engine found in its prefix cache."""
        read = sum(cost.prompt_tokens for cost in self.costs)
        return sum(cost.cached_tokens for cost in self.costs) / read if read else 0.0


def index(settings: JobSettings, observe: Observe = silent) -> Report:
    """Chunk and embed the corpus into a version below `index.uri`; load it where a Chroma server lasts."""
    return _do(identify(settings, "index"), observe)


def load(settings: JobSettings, observe: Observe = silent) -> Report:
    """Load a committed index version into Chroma and verify it there."""
    return _do(identify(settings, "load"), observe)


def answer(settings: JobSettings, observe: Observe = silent) -> Report:
    """Answer the prompts from a committed index version: one row per prompt in one `answers.parquet`."""
    return _do(identify(settings, "answer"), observe)


def run(settings: JobSettings, observe: Observe = silent) -> Report:
    """Index the corpus, then answer the prompts from that version."""
    return _do(identify(settings, "run"), observe)


def index_steps(task: Task, size: cluster.Resources) -> list[Step]:
    """From units of the corpus to parts of an index version."""
    settings, model, own = task.settings, task.embed, task.index
    corpus, chunks, embedding, done = settings.corpus, settings.chunk, settings.embed, own.done()
    threads = fit.threads(embedding.pool, size)
    return [
        Step(["read", "chunk"], lambda: [ReadDocuments(corpus, done), chunk.make(chunks, model)]),
        Step(
            ["embed"],
            lambda: [embed.make_for_chunks(embedding, model, own.settle_dtype, threads)],
            embedding.pool,
            at_once=embed.BLOCKS_AT_ONCE,
        ),
        Step(["write"], lambda: [WriteChunks(own)]),
    ]


def answer_steps(task: Task, plan: Plan, manifest: ledger.IndexManifest, target: "Target") -> list[Step]:
    """From units of the prompts to parts of a run."""
    assert task.run
    assert plan.prompts
    settings, own, columns = task.settings, task.run, plan.prompts.passed
    prompts, embedding, search, filling, answering = (
        settings.prompts,
        settings.embed,
        settings.retrieve,
        settings.augment,
        settings.generate,
    )  # sections alone travel to the workers
    embedder, model, dtype = task.embed, task.generate or task.embed, manifest.dtype
    threads = {name: fit.threads(fit.pool(settings, name), plan.size) for name in ("embed", "generate")}
    expected = _expected(settings, manifest)
    provenance = (manifest.embed_model, task.generate_label, manifest.version, task.run_id)
    return [
        Step(["read"], lambda: [ReadPrompts(prompts, columns)]),
        Step(
            ["embed"],
            lambda: [embed.make_for_prompts(embedding, embedder, dtype, threads["embed"])],
            embedding.pool,
            at_once=embed.BLOCKS_AT_ONCE,
        ),
        Step(
            ["retrieve", "augment"],
            lambda: [retrieve.make(search, target, expected), augment.make(filling, model)],
            search.pool,
            at_once=retrieve.BLOCKS_AT_ONCE,
        ),
        Step(
            ["generate"],
            lambda: [generate.make(answering, filling.system, embedding, model, dtype, threads["generate"])],
            answering.pool,
            at_once=generate.blocks_at_once(answering, settings.commit_rows),
            retries=answering.max_engine_restarts,
            environment=generate.environment(answering),
        ),
        Step(["write"], lambda: [WriteAnswers(own, schema.answers(columns), provenance)]),
    ]


def _do(task: Task, observe: Observe) -> Report:
    if task.manifest:
        task.index.settle(task.manifest)
    if report := _finished(task):
        return report
    with task.run.log() if task.run else nullcontext():
        log.info("started", extra={"command": task.command, "index_version": task.version, "run_id": task.run_id})
        plan = check(task)
        plan.require()
        _claim(task)
        report = _carry_out(task, plan, observe)
        for cost in report.costs:
            log.info("stage", extra=asdict(cost))
        log.info("done", extra={"rows": report.rows, "errors": report.errors, "kept": report.kept})
    return report


def _carry_out(task: Task, plan: Plan, observe: Observe) -> Report:
    with (
        serving(task.settings.chroma, own=task.run is not None) as target,
        cluster.running(plan.size) if task.flows else nullcontext(lambda: None) as stop_ray,
    ):
        report = Report(task.command, task.version, 0, 0)
        manifest = task.manifest
        if manifest is None:
            manifest, report = _index(task, plan, observe, report)
        elif task.command == "index":
            report = _indexed(task, manifest, report)
        if task.run is None:
            stop_ray()
        if target:
            report = _load(task, manifest, target(), observe, report)
        if task.command != "answer":
            ledger.set_current(str(task.settings.index.uri), task.version)
        if task.run and target:
            return _answer(task, plan, manifest, target(), observe, report)
        return report


def _finished(task: Task) -> Report | None:
    """What to report when there is nothing left to do. Whether an index is in its Chroma, only the server knows."""
    report = Report(task.command, task.version, 0, 0, already_done=True)
    if task.run:
        published = task.run.published()
        return _answered(task, published, report) if published else None
    chroma = task.settings.chroma
    current = ledger.current_version(str(task.settings.index.uri))
    if task.command == "index" and task.manifest and current == task.version and not (chroma.url or chroma.path):
        return _indexed(task, task.manifest, report)
    return None


def _claim(task: Task) -> None:
    """Say which index version is needed; raises `DataError` when `clean` took it away before that was said."""
    if task.run:
        task.run.claim(task.version)
    if task.manifest and task.index.manifest() is None:
        raise DataError(f"index.uri: version {task.version} was removed since the job began; run it again")


@contextmanager
def serving(settings: Chroma, *, own: bool) -> Iterator[Callable[[], "Target"] | None]:
    """The server to use, once it is ready: one that lasts, or if need be the job's `own`; None if there is none.

    An index without a server that lasts is committed unloaded: its vectors wait on storage.
    """
    if settings.url:
        url = settings.url
        yield lambda: _target(url, settings.timeout_s)
    elif settings.path is None and not own:
        yield None
    else:
        from job.chroma_server import LocalChroma

        with LocalChroma(settings.path) as server:
            yield lambda: _target(server.url(), settings.timeout_s)


def _target(url: str, timeout_s: float) -> "Target":
    from job.store import Target  # imports chromadb, which is not for the start

    return Target(url, timeout_s)


def _index(task: Task, plan: Plan, observe: Observe, report: Report) -> tuple[ledger.IndexManifest, Report]:
    task.index.take_up()
    limit = task.settings.commit_rows
    units = list(inputs.plan_slices(plan.segments, limit, limit * CHUNK_BYTES))
    tasks = fit.free_tasks(task.settings, "index", plan.size)
    try:
        spent = execute(units, index_steps(task, plan.size), tasks, task.settings.s3, observe)
        parts = task.index.survey()
        _check_complete(plan, parts)
        _check_documents(task, parts)
        about = {"fingerprint": task.fingerprint, "settings": task.facts, "embed_model": task.embed.label}
        manifest = task.index.commit(parts, **about)
    except RagjobError:
        # Another attempt may have been faster, and have swept what this one still needed.
        faster = task.index.manifest()
        if faster is None:
            raise
        task.index.settle(faster)
        spent, manifest = [], faster
    return manifest, _indexed(task, manifest, replace(report, costs=spent))


def _check_complete(plan: Plan, parts: list[ledger.Part]) -> None:
    """Raise when a document is in no part: `clean` takes those of an attempt that was given up long ago."""
    lost = sum(segment.rows for segment in plan.segments) - sum(part.documents.num_rows for part in parts)
    if lost > 0:
        raise DependencyError(f"index.uri: the parts of {lost:,} documents were removed meanwhile; run it again")


def _check_documents(task: Task, parts: list[ledger.Part]) -> None:
    """Raise when too large a share of the documents failed, one that failed in part counting by that part."""
    documents = [document for part in parts for document in part.documents.to_pylist()]
    failed = [document for document in documents if document["failed_count"]]
    if all((document[schema.ERROR] or "").startswith(NO_TEXT) for document in documents):
        raise DataError(f"corpus.uri: no text to index in {task.settings.corpus.uri}; name files with text in them")
    share = sum(d["failed_count"] / (d["failed_count"] + d["chunk_count"]) for d in failed) / len(documents)
    if share > task.settings.errors.max_rate:
        first = failed[0]
        raise TooManyFailures(
            f"errors.max_rate: {share:.1%} of {len(documents):,} documents failed, more than "
            f"{task.settings.errors.max_rate:.1%}; the first is {first[schema.DOCUMENT_ID]}: {first[schema.ERROR]}"
        )


def _indexed(task: Task, manifest: ledger.IndexManifest, report: Report) -> Report:
    errors = task.index.errors().slice(0, LISTED_ERRORS)
    failures = list(zip(errors[schema.DOCUMENT_ID].to_pylist(), errors[schema.ERROR].to_pylist(), strict=True))
    return replace(report, rows=manifest.chunks, errors=manifest.failed, failures=failures)


def _load(task: Task, manifest: ledger.IndexManifest, target: "Target", observe: Observe, report: Report) -> Report:
    from job import store

    expected = _expected(task.settings, manifest)
    if task.command != "load" and store.is_loaded(target, expected):
        return replace(report, already_done=not (task.run or report.costs))

    def tell(loaded: int) -> None:
        observe(Progress("load", loaded, loaded / manifest.chunks))

    start = time.perf_counter()
    store.load(target, expected, lambda: task.index.batches(manifest), tell)
    cost = Cost("load", manifest.chunks, 0, time.perf_counter() - start)
    return replace(report, rows=report.rows or manifest.chunks, costs=[*report.costs, cost])


def _expected(settings: JobSettings, manifest: ledger.IndexManifest) -> "Expected":
    from job.store import Expected, collection_name

    name = collection_name(settings.index.collection, manifest.version)
    source = storage.absolute(str(settings.index.uri))
    return Expected(name, manifest.version, manifest.fingerprint, manifest.chunks, manifest.dimension, source)


def _answer(
    task: Task,
    plan: Plan,
    manifest: ledger.IndexManifest,
    target: "Target",
    observe: Observe,
    report: Report,
) -> Report:
    assert task.run
    assert plan.prompts
    if published := task.run.published():  # by another attempt, since this one began
        return _answered(task, published, report)
    total = plan.prompts.rows
    try:
        answered, staged = task.run.progress(total)
        report = replace(report, kept=int(np.count_nonzero(answered)))
        # Failed rows are tried again, unless they are all that is left and few enough.
        if not staged.all() or _too_many(task, answered):
            spent = execute(
                _left(task, plan, answered),
                answer_steps(task, plan, manifest, target),
                fit.free_tasks(task.settings, "answer", plan.size),
                task.settings.s3,
                observe,
            )
            report = replace(report, costs=report.costs + spent)
            answered = task.run.progress(total)[0]
        if problem := _too_many(task, answered):
            raise problem
    except RagjobError:
        # Another attempt may have been faster, and have swept what this one still needed.
        if task.run.published() is None:
            raise
    return _answered(task, task.run.publish(total, schema.answers(plan.prompts.passed)), report)


def _left(task: Task, plan: Plan, answered: ledger.Mask) -> list[pa.Table]:
    """Units of the prompts that have no answer yet."""
    assert plan.prompts
    units = inputs.plan_slices(plan.prompts.segments, task.settings.commit_rows, NO_LIMIT)
    return [unit for whole in units if (unit := inputs.without(whole, answered)).num_rows]


def _too_many(task: Task, answered: ledger.Mask) -> TooManyFailures | None:
    """The error when more prompts have no answer than the settings allow."""
    assert task.run
    total, most = len(answered), task.settings.errors.max_rate
    failed = total - int(np.count_nonzero(answered))
    if failed / total <= most:
        return None
    first = task.run.staged_errors(1)
    return TooManyFailures(
        f"errors.max_rate: {failed:,} of {total:,} prompts failed, more than {most:.1%}; "
        f"the first is {': '.join(first[0]) if first else 'unknown'}"
    )


def _answered(task: Task, published: ledger.RunManifest, report: Report) -> Report:
    """The report of a run whose answers are there, by this attempt or another; nothing else of it is left."""
    assert task.run
    task.run.sweep()
    return replace(
        report,
        rows=published.rows,
        errors=published.errors,
        prompt_tokens=published.prompt_tokens,
        completion_tokens=published.completion_tokens,
        run_id=task.run_id,
        answers=task.run.answers,
        failures=task.run.errors(LISTED_ERRORS) if published.errors else [],
    )
