"""What a command has to do, and whether it can: known before anything expensive starts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

from job import engines, fit, inputs, ledger, schema, storage, tuning
from job.cluster import Resources, resources
from job.config import JobSettings, require
from job.errors import DataError, RagjobError, SettingsError
from job.models import sizes
from job.models.files import Source
from job.models.source import resolve
from job.models.tokenizer import open_tokenizer

_REQUIRED = {
    "index": ["corpus.uri", "index.uri"],
    "load": ["index.uri"],
    "answer": ["prompts.uri", "index.uri", "output.uri"],
    "run": ["corpus.uri", "prompts.uri", "index.uri", "output.uri"],
}
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """One command on one set of inputs, as listings and manifests tell it: no Ray, torch or Chroma was asked.

    `manifest` is None while the index version isn't committed, `run` where the command answers nothing.
    """

    command: str
    settings: JobSettings
    embed: Source
    generate: Source | None
    facts: dict[str, Any]
    version: str
    manifest: ledger.IndexManifest | None
    corpus: list[storage.Entry]
    prompts: list[storage.Entry]
    run: ledger.RunLedger | None
    run_id: str

    @property
    def index(self) -> ledger.IndexLedger:
        return ledger.IndexLedger(str(self.settings.index.uri), self.version)

    @property
    def fingerprint(self) -> str:
        return schema.digest(self.facts)

    @property
    def generate_label(self) -> str:
        if self.settings.generate.engine == "openai":
            return f"openai:{self.settings.generate.model}"  # which revision it serves, an API doesn't tell
        return self.generate.label if self.generate else f"extractive:{self.embed.label}"

    @property
    def flows(self) -> list[str]:
        """The flows that remain: `index` while its version isn't committed, `answer` where prompts are."""
        index = ["index"] if self.corpus and self.manifest is None else []
        return index + (["answer"] if self.run else [])


@dataclass(frozen=True)
class Check:
    """One line of the plan: what was looked at, what was found, and the error if that won't do."""

    name: str
    found: str
    error: RagjobError | None = None


@dataclass
class Plan:
    """The checks of a task, and what they found that the flows need."""

    size: Resources
    checks: list[Check] = field(default_factory=list)
    segments: list[inputs.Segment] = field(default_factory=list)
    prompts: inputs.Inputs | None = None

    def require(self) -> None:
        """Raise the first error found."""
        for check in self.checks:
            if check.error:
                raise check.error


def identify(settings: JobSettings, command: str) -> Task:
    """Find out what `command` is about. Raises when an input, a model or the index isn't there or doesn't fit."""
    require(settings, command, *_REQUIRED[command])
    storage.configure(settings.s3)
    embed = resolve(settings.embed.model, settings.embed.revision, "embed.model", settings.models.cache)
    facts = _index_facts(settings, embed)
    corpus: list[storage.Entry] = []
    if command in ("index", "run"):
        corpus = _list(settings, "corpus.uri", inputs.DOCUMENT_FILES)
        columns = (settings.corpus.text_column, settings.corpus.id_column)
        version = schema.digest(facts, columns, _listing(corpus))[:16]
        manifest = ledger.IndexLedger(str(settings.index.uri), version).manifest()
    else:
        manifest = _existing(settings, facts, embed)
        version = manifest.version
    about = (command, settings, embed)
    if command in ("index", "load"):
        return Task(*about, None, facts, version, manifest, corpus, [], None, "")
    return _with_run(about, facts, version, manifest, corpus)


def check(task: Task) -> Plan:
    """Look at everything that the task's flows need, and say what was found."""
    settings = task.settings
    plan = Plan(resources(settings.cluster))
    if "index" in task.flows:
        plan.segments = (
            _look(plan, "corpus", lambda: inputs.scan_corpus(task.corpus, settings.corpus), _segments_found) or []
        )
        _look(plan, "chunks", lambda: _check_chunks(task))
    if task.run:
        plan.prompts = _look(
            plan, "prompts", lambda: inputs.scan_prompts(task.prompts, settings.prompts), _prompts_found
        )
        _look(plan, "output", lambda: _check_output(task))
        _look(plan, "prompt", lambda: _check_context(task))
        _look(plan, "engine", lambda: engines.check_engine(settings, task.generate))
    _look(plan, "index", lambda: _check_index(task))
    _look(plan, "pools", lambda: fit.check_pools(settings, task.flows, plan.size))
    _look(plan, "memory", lambda: _check_memory(task, plan))
    _look(plan, "chroma", lambda: _check_chroma(task, plan.size))
    if task.flows and not any(line.error for line in plan.checks):
        plan.checks += [Check("proposal", proposal) for proposal in _proposals(task, plan)]
    return plan


def _with_run(
    about: tuple[str, JobSettings, Source],
    facts: dict[str, Any],
    version: str,
    manifest: ledger.IndexManifest | None,
    corpus: list[storage.Entry],
) -> Task:
    settings = about[1]
    prompts = _list(settings, "prompts.uri", inputs.PROMPT_FILES)
    generate = None
    if settings.generate.engine in ("transformers", "vllm"):
        model, revision = settings.generate.model, settings.generate.revision
        generate = resolve(model, revision, "generate.model", settings.models.cache)
    identity = schema.digest(_run_facts(settings, generate), version, _listing(prompts))
    run_id = settings.run_id or identity[:16]
    run = ledger.RunLedger(str(settings.output.uri), run_id, identity)
    return Task(*about, generate, facts, version, manifest, corpus, prompts, run, run_id)


def _index_facts(settings: JobSettings, embed: Source) -> dict[str, Any]:
    """What decides an index's chunks and vectors, by setting."""
    chunk = settings.chunk.model_dump(include={"strategy", "min_chars"})
    if settings.chunk.strategy == "tokens":
        chunk = settings.chunk.model_dump()
    how = settings.embed.model_dump(include={"query_prefix", "document_prefix", "max_length"})
    facts = {"embed.model": embed.revision, "format": schema.INDEX_FORMAT, "metric": schema.METRIC}
    facts |= {f"chunk.{name}": value for name, value in chunk.items()}
    return facts | {f"embed.{name}": value for name, value in how.items()}


def _run_facts(settings: JobSettings, generate: Source | None) -> dict[str, Any]:
    """What decides a run's answers beside the index and the prompts."""
    engine = settings.generate.engine
    used = {"max_new_tokens", "temperature"} if engine != "extractive" else set()
    facts: dict[str, Any] = {"generate.model": generate.revision if generate else None}
    if engine == "openai":
        facts["generate.model"] = settings.generate.model
    elif engine == "vllm":
        facts["generate.vllm"] = engines.deciding(settings.generate.vllm)
    return facts | {
        "format": schema.ANSWER_FORMAT,
        "prompts": settings.prompts.model_dump(exclude={"uri"}),
        "retrieve": settings.retrieve.model_dump(include={"mode", "top_k", "min_score"}),
        "augment": settings.augment.model_dump(),
        "generate": settings.generate.model_dump(include={"engine", *used}),
    }


def _listing(entries: list[storage.Entry]) -> list[tuple[str, int, str]]:
    return [(entry.path, entry.size, entry.tag) for entry in entries]


def _list(settings: JobSettings, key: str, suffixes: tuple[str, ...]) -> list[storage.Entry]:
    """List an input. Raises `SettingsError` when what the job writes would be among what it reads."""
    uri = str(getattr(settings, key.split(".")[0]).uri)
    entries = storage.list_inputs(uri, suffixes, key)
    places = {"index.uri": settings.index.uri, "output.uri": settings.output.uri, "chroma.path": settings.chroma.path}
    for name, written in places.items():
        place = storage.join(storage.absolute(written), "") if written else None
        if place and any(entry.uri.startswith(place) for entry in entries):
            raise SettingsError(f"{key}: {uri} holds files of {name}, {written}; name a folder or glob without them")
        if place and place.startswith(storage.join(storage.absolute(uri), "")):
            raise SettingsError(f"{name}: {written} lies inside {key}, {uri}, and would be read as input; move it out")
    return entries


def _existing(settings: JobSettings, facts: dict[str, Any], embed: Source) -> ledger.IndexManifest:
    uri = str(settings.index.uri)
    version = settings.index.version or ledger.current_version(uri)
    manifest = ledger.IndexLedger(uri, version).manifest() if version else None
    if manifest is None:
        what = f"no index version {version}" if version else "no index"
        raise DataError(f"index.{'version' if settings.index.version else 'uri'}: {what} in {uri}; run `ragjob index`")
    if manifest.settings.get("format") != facts["format"]:
        raise DataError(f"index.uri: version {manifest.version} was made by another release; run `ragjob index`")
    for key, wanted in facts.items():
        made = manifest.settings.get(key)
        if made != wanted:
            if key == "embed.model":  # by name, too
                made, wanted = manifest.embed_model, embed.label
            raise DataError(
                f"{key}: index version {manifest.version} was made with {made!r}, the settings say {wanted!r}; "
                "set it back, or run `ragjob index` with these settings"
            )
    return manifest


def _look(plan: Plan, name: str, look: Callable[[], T], found: Callable[[T], str] = str) -> T | None:
    try:
        result = look()
    except RagjobError as error:
        plan.checks.append(Check(name, str(error), error))
        return None
    plan.checks.append(Check(name, found(result)))
    return result


def _segments_found(segments: list[inputs.Segment]) -> str:
    files = len({segment.entry.uri for segment in segments})
    documents = sum(segment.rows for segment in segments)
    return f"{documents:,} documents in {files:,} files, {sum(segment.size for segment in segments):,} bytes"


def _prompts_found(prompts: inputs.Inputs) -> str:
    return f"{prompts.rows:,} prompts" + (f", passing through {', '.join(prompts.passed.names)}" * bool(prompts.passed))


def _check_chunks(task: Task) -> str:
    chunk, limit = task.settings.chunk, sizes.max_tokens(task.embed)
    if task.settings.embed.max_length:
        limit = min(limit or task.settings.embed.max_length, task.settings.embed.max_length)
    if chunk.strategy == "line":
        return f"a chunk a line, read up to {limit} tokens"
    open_tokenizer(task.embed)
    if limit and chunk.size + 2 > limit:  # the model adds a token at either end
        raise SettingsError(
            f"chunk.size: {chunk.size} tokens, but {task.embed.name} reads {limit - 2} of a text; lower it"
        )
    return f"up to {chunk.size} tokens, sharing {chunk.overlap}; the model reads {limit}"


def _check_context(task: Task) -> str:
    passages, answer = task.settings.augment.max_context_tokens, task.settings.generate.max_new_tokens
    open_tokenizer(task.generate or task.embed)
    if task.generate is None:
        return f"up to {passages} tokens of passages"
    limit = sizes.context_tokens(task.generate)
    if limit and passages + answer >= limit:
        raise SettingsError(
            f"augment.max_context_tokens: {passages} of passages and {answer} of an answer (generate.max_new_tokens) "
            f"leave no room for a question in the {limit} tokens of {task.generate.name}; lower it"
        )
    return f"up to {passages} tokens of passages and {answer} of an answer; the model holds {limit}"


def _check_output(task: Task) -> str:
    storage.check_writable(str(task.settings.output.uri), "output.uri")
    return f"run {task.run_id} in {task.settings.output.uri}"


def _check_index(task: Task) -> str:
    if task.manifest:
        return f"version {task.version}, {task.manifest.chunks:,} chunks"
    storage.check_writable(str(task.settings.index.uri), "index.uri")
    return f"version {task.version}, to be made"


def _check_memory(task: Task, plan: Plan) -> str:
    chunks = task.manifest.chunks if task.manifest else fit.estimate_chunks(task.settings, plan.segments)
    return fit.check_memory(task.settings, task.flows, plan.size, task.embed, task.generate, chunks)


def _check_chroma(task: Task, size: Resources) -> str:
    settings = task.settings
    if settings.chroma.url:
        from job import store  # imports chromadb, which a finished job never needs
        from job.chroma_session import shown

        store.check(store.Target(settings.chroma.url, settings.chroma.timeout_s))
        return shown(settings.chroma.url)
    if task.command == "load" and not settings.chroma.path:
        raise SettingsError("chroma.url: `load` needs a server that lasts; set chroma.url or chroma.path")
    if size.nodes > 1:
        raise SettingsError(
            f"chroma.url: required on {size.nodes} nodes: the job's own server is on loopback, "
            "which the other nodes can't reach; start a Chroma server and name it"
        )
    if settings.chroma.path:
        from job.chroma_server import check_folder

        check_folder(settings.chroma.path)
    return f"the job's own, data in {settings.chroma.path or 'a temporary folder'}"


def _proposals(task: Task, plan: Plan) -> list[str]:
    settings, work = task.settings, {}
    if "index" in task.flows:
        chunks = fit.estimate_chunks(settings, plan.segments)
        work["index"] = tuning.Work(chunks, sum(segment.rows for segment in plan.segments))
    if plan.prompts:
        work["answer"] = tuning.Work(plan.prompts.rows, plan.prompts.rows)
    models = tuning.facts(task.embed), tuning.facts(task.generate) if task.generate else None
    found = tuning.propose(settings, plan.size, work, *models)
    reasons = groupby(found, key=lambda each: each.why)
    lines = [f"{' '.join(f'{each.key}={each.value}' for each in group)} (calculated): {why}" for why, group in reasons]
    return lines or ["none: by calculation, pools, batches and blocks suit this cluster"]
