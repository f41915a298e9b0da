"""Whether a command can run: everything that it needs is checked before anything expensive starts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from ragjob import storage
from ragjob.config import JobSettings
from ragjob.documents import units
from ragjob.errors import RagjobError, SettingsError
from ragjob.models import sizes
from ragjob.models.capacity import Resources, Work, facts
from ragjob.models.files import Source
from ragjob.planning.identity import AnswerTask, CommittedIndex, PendingIndex, mode_of
from ragjob.planning.memory import actor_bytes, check_memory
from ragjob.planning.metadata import check_filter
from ragjob.planning.packing import check_pools
from ragjob.planning.proposals import Answering, Flow, Indexing, propose
from ragjob.planning.texts import check_chunks, check_questions, check_words

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One line of a plan: what was looked at, and what was seen."""

    name: str
    line: str


@dataclass(frozen=True)
class Warned(Check):
    """What was looked at, and why the result may be poor."""


@dataclass(frozen=True)
class Failed(Check):
    """What was looked at, and the error that it has."""

    error: RagjobError


@dataclass(frozen=True)
class Plan:
    """The checks of a command on a cluster of `size`, in the order in which they were made."""

    size: Resources
    checks: list[Check] = field(default_factory=list)

    def failed(self, name: str) -> bool:
        """Return whether the check of that name found an error."""
        return any(check.name == name for check in self.checks if isinstance(check, Failed))

    @property
    def errors(self) -> list[RagjobError]:
        """The errors that were found."""
        return [check.error for check in self.checks if isinstance(check, Failed)]

    def require(self) -> None:
        """Raise the first error."""
        for error in self.errors:
            raise error

    def look(
        self,
        name: str,
        look: Callable[[], T],
        line: Callable[[T], str] = str,
        *,
        warns: Callable[[T], object] = lambda _: False,
    ) -> None:
        """Add what `look` returns, worded by `line`, as a warning if `warns` says so, or the error that it raises."""
        try:
            seen = look()
            self.checks.append((Warned if warns(seen) else Check)(name, line(seen)))
        except RagjobError as error:
            self.checks.append(Failed(name, str(error), error))


def plan_index(index: PendingIndex | CommittedIndex, size: Resources) -> Plan:
    """Check what `index` needs."""
    plan = _begin(index, size)
    _add_index(plan, index)
    return _end(plan, index, [], needs_server=False)


def plan_load(index: CommittedIndex, size: Resources) -> Plan:
    """Check what `load` needs."""
    plan = _begin(index, size)
    _add_index(plan, index)
    return _end(plan, index, [], needs_server=True)


def plan_answer(index: PendingIndex | CommittedIndex, task: AnswerTask, size: Resources) -> Plan:
    """Check what it takes to answer from an index version, made first if it isn't committed."""
    plan = _begin(index, size)
    plan.look("prompts", lambda: task.inputs, _prompts_line)
    _add_passed_over(plan, task.prompts.passed_over)
    plan.look("output", lambda: _check_output(task))
    if index.settings.retrieve.where:
        plan.look("filter", lambda: check_filter(index, task))
    plan.look("searches", lambda: check_questions(index.settings, index.embedder))
    if reranker := task.reranker:
        plan.look("rerank", lambda: _check_reranker(reranker, task.settings))
    plan.look("prompt", task.engine.check_prompt)
    plan.look("engine", task.engine.check)
    _add_index(plan, index)
    return _end(plan, index, [task], needs_server=False)


def _begin(index: PendingIndex | CommittedIndex, size: Resources) -> Plan:
    plan = Plan(size)
    if isinstance(index, PendingIndex):
        plan.look("corpus", lambda: index.segments, _segments_line)
        plan.look(
            "chunks",
            lambda: check_chunks(index.settings, index.embedder),
            attrgetter("line"),
            warns=attrgetter("is_tight"),
        )
        if not plan.errors:
            plan.look("words", lambda: check_words(index), attrgetter("line"), warns=attrgetter("unknown"))
    _add_passed_over(plan, index.passed_over)
    return plan


def _add_passed_over(plan: Plan, passed_over: list[storage.PassedOver]) -> None:
    plan.checks.extend(Check("files", f"{files.setting}: {files}") for files in passed_over)


def _add_index(plan: Plan, index: PendingIndex | CommittedIndex) -> None:
    if isinstance(index, CommittedIndex):
        plan.checks.append(Check("index", f"version {index.ledger.version}, {index.chunks:,} chunks"))
    else:
        plan.look("index", lambda: _check_index(index))


def _end(
    plan: Plan,
    index: PendingIndex | CommittedIndex,
    answering: list[AnswerTask],
    *,
    needs_server: bool,
) -> Plan:
    """Check what the remaining flows need together."""
    settings, size = index.settings, plan.size
    indexing = [index] if isinstance(index, PendingIndex) else []
    lacking = isinstance(index, CommittedIndex) and index.must_embed_sentences and not needs_server
    if lacking:
        plan.look("sentences", lambda: _check_sentences(index.ledger.uri))
    flows = ["index"] * (len(indexing) + lacking) + ["answer"] * len(answering)
    plan.checks.append(Check("cluster", _cluster_line(size)))
    if sums := settings.cluster.sums:
        keys = ", ".join(f"cluster.{key}" for key in sums)
        assumed = f"with {keys} all nodes are taken to be equal; use cluster.groups instead"
        plan.checks.append(Warned("warning", assumed))
    plan.look("pools", lambda: check_pools(settings, flows, size))
    if not plan.failed("corpus") and not plan.failed("pools"):  # which say how many vectors, and which nodes
        plan.look("memory", lambda: _check_memory(index, answering, flows, size))
    if not answering or mode_of(settings).asks_chroma:
        plan.look("chroma", lambda: _check_chroma(settings, size, needs_server=needs_server))
    if (indexing or answering) and not plan.errors:
        plan.checks.extend(Check("proposal", line) for line in _proposals(index, indexing, answering, size))
    return plan


def _segments_line(segments: list[units.Segment]) -> str:
    files = len({segment.entry.uri for segment in segments})
    documents = sum(segment.rows for segment in segments)
    return f"{documents:,} documents in {files:,} files, {sum(segment.size for segment in segments):,} bytes"


def _prompts_line(prompts: units.Inputs) -> str:
    return f"{prompts.rows:,} prompts" + (f", passing through {', '.join(prompts.passed.names)}" * bool(prompts.passed))


def _check_output(task: AnswerTask) -> str:
    storage.check_writable(task.ledger.output, "output.uri")
    return f"run {task.ledger.run_id} in {task.settings.output.uri}"


def _check_reranker(model: Source, settings: JobSettings) -> str:
    """What reorders how many passages. Raises `SettingsError` for a model that gives several scores."""
    scores = sizes.labels(model)
    if scores not in (1, None):
        raise SettingsError(f"rerank.model: {model.name} gives {scores} scores per passage; use a model that gives one")
    return f"{model.label}, {settings.rerank.candidates} passages per prompt"


def _check_index(index: PendingIndex) -> str:
    storage.check_writable(index.ledger.uri, "index.uri")
    return f"version {index.ledger.version}, to be made"


def _check_sentences(index_uri: str) -> str:
    storage.check_writable(index_uri, "index.uri")
    return "to be embedded, since retrieve.sentences is on"


def _cluster_line(size: Resources) -> str:
    return "; ".join(
        f"{group.max:,} nodes{f' of {group.name}' * bool(group.name)} with {group.cpus:g} CPUs"
        + f", {group.gpus} GPUs" * bool(group.gpus)
        + (f", {group.memory / 1e9:.1f} GB" if group.memory else "")
        for group in size.groups
    )


def _check_memory(
    index: PendingIndex | CommittedIndex, answering: list[AnswerTask], flows: list[str], size: Resources
) -> str:
    reranker = next((task.reranker for task in answering), None)
    actors = actor_bytes(index.embedder, [task.engine for task in answering], reranker)
    return check_memory(index.settings, flows, size, actors, index.chunks, sizes.dimension(index.embedder))


def _check_chroma(settings: JobSettings, size: Resources, *, needs_server: bool) -> str:
    chroma = settings.chroma
    if chroma.url:
        # Imports chromadb, which a finished job never needs.
        from ragjob.retrieval.chroma.collection import check
        from ragjob.retrieval.chroma.expected import Target
        from ragjob.retrieval.chroma.session import shown

        check(Target(chroma.url, chroma.timeout_s))
        return shown(chroma.url)
    if needs_server and not chroma.path:
        raise SettingsError("chroma.url: `load` needs a permanent server; set chroma.url or chroma.path")
    if size.nodes > 1:
        raise SettingsError(
            f"chroma.url: required on {size.nodes} nodes, since the job's own server listens on loopback, "
            "which other nodes can't reach; start a Chroma server and name its address"
        )
    if chroma.path:
        from ragjob.retrieval.chroma.server import check_folder

        check_folder(chroma.path)
    return f"the job's own, data in {chroma.path or 'a temporary folder'}"


def _proposals(
    index: PendingIndex | CommittedIndex, indexing: list[PendingIndex], answering: list[AnswerTask], size: Resources
) -> list[str]:
    flows: list[Flow] = [
        *(Indexing(Work(making.chunks, sum(part.rows for part in making.segments))) for making in indexing),
        *(Answering(Work(task.inputs.rows, task.inputs.rows), task.engine) for task in answering),
    ]
    proposals = propose(index.settings, size, facts(index.embedder), flows)
    reasons = groupby(proposals, key=lambda proposal: proposal.why)
    lines = [
        f"{' '.join(f'{proposal.key}={proposal.value}' for proposal in group)} (calculated): {why}"
        for why, group in reasons
    ]
    return lines or ["none: by calculation, pools, batches and blocks suit this cluster"]
