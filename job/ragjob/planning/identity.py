"""What a command is about: the index version and the run that its inputs and settings decide.

All of it follows from listings, manifests and models' small files: neither Ray, torch nor Chroma is needed.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from ragjob import storage
from ragjob.config import JobSettings, required
from ragjob.documents import units
from ragjob.documents.inputs import list_corpus, list_prompts
from ragjob.engines import ENGINES, Engine, Generation
from ragjob.engines.base import Surroundings
from ragjob.errors import DataError, SettingsError
from ragjob.ledger import schema
from ragjob.ledger.derived import SegmentFiles
from ragjob.ledger.index import IndexLedger, IndexManifest, current_version
from ragjob.ledger.run import RunLedger
from ragjob.ledger.sentences import SentenceLedger
from ragjob.models.files import Source
from ragjob.models.source import resolve
from ragjob.retrieval import MODES, Mode, Retrieval
from ragjob.settings import Decides, Section
from ragjob.storage.names import before_wildcard

# Sections whose settings decide an index by way of its corpus: an index that is there is never compared with them.
OF_THE_CORPUS = "corpus"


@dataclass(frozen=True)
class PendingIndex:
    """An index version that isn't committed: what it is to be made of."""

    settings: JobSettings
    embedder: Source
    facts: dict[str, object]
    corpus: storage.Listing
    ledger: IndexLedger

    @cached_property
    def segments(self) -> list[units.Segment]:
        """What the corpus holds. Raises `DataError` as `scan_corpus` does."""
        return units.scan_corpus(self.corpus.entries, self.settings.corpus)

    @property
    def passed_over(self) -> list[storage.PassedOver]:
        """The files of the corpus that aren't read."""
        return self.corpus.passed_over

    @property
    def chunks(self) -> int:
        """About how many chunks it will have."""
        return units.estimate_chunks(self.settings.chunk, self.segments)


@dataclass(frozen=True)
class CommittedIndex:
    """A committed index version, and the files passed over, if the command has listed the corpus."""

    settings: JobSettings
    embedder: Source
    ledger: IndexLedger
    manifest: IndexManifest
    passed_over: list[storage.PassedOver]

    @property
    def chunks(self) -> int:
        """Chunks that it has."""
        return self.manifest.chunks

    @property
    def files(self) -> SegmentFiles:
        """The files of its segment, which retrieval maps into memory."""
        (segment,) = self.manifest.segments
        return SegmentFiles(self.ledger.uri, segment.segment, segment.files, self.settings.index.cache)

    @cached_property
    def sentences(self) -> SentenceLedger:
        """What is stored of the sentences of its chunks."""
        (segment,) = self.manifest.segments
        return SentenceLedger(self.ledger.uri, segment.segment, segment.files)

    @property
    def lacks_sentences(self) -> bool:
        """Return whether retrieval uses sentences that aren't there yet."""
        return mode_of(self.settings).uses_sentences and self.sentences.manifest() is None

    @property
    def must_embed_sentences(self) -> bool:
        """Return whether some of them must be embedded first: what is staged only needs to be joined."""
        return self.lacks_sentences and bool(self.sentences.missing())

    def require(self) -> None:
        """Raise `DataError` if `clean` removed the version before this job said that it needs it."""
        if not self.ledger.is_committed():
            raise DataError(
                f"index.uri: version {self.ledger.version} was removed after the job began; run the job again"
            )


@dataclass(frozen=True)
class AnswerTask:
    """A run: the prompts that are to be answered, from which index version, by which engine."""

    settings: JobSettings
    version: str
    engine: Engine[Generation]
    prompts: storage.Listing
    ledger: RunLedger
    reranker: Source | None = None

    @cached_property
    def inputs(self) -> units.Inputs:
        """What the prompts' files hold. Raises `DataError` as `scan_prompts` does."""
        return units.scan_prompts(self.prompts.entries, self.settings.prompts)


def mode_of(settings: JobSettings) -> Mode[Retrieval]:
    """The mode of retrieval that the settings name."""
    return MODES[settings.retrieve.mode](settings.retrieve)


def identify_index(settings: JobSettings, command: str) -> PendingIndex | CommittedIndex:
    """The version that the corpus makes. Raises when the corpus or the model isn't there."""
    corpus_uri = required(settings.corpus.uri, "corpus.uri", command)
    index_uri = required(settings.index.uri, "index.uri", command)
    embedder = _embedder(settings)
    facts = _index_facts(settings, embedder)
    corpus = list_corpus(corpus_uri, settings.corpus)
    _check_apart(settings, corpus_uri, "corpus.uri", corpus)
    _check_prompts_apart(settings, corpus_uri, corpus)
    of_corpus = list(settings.corpus.deciding(Decides.INDEX).values())
    ledger = IndexLedger(index_uri, schema.digest(facts, of_corpus, listed(corpus))[:16])
    manifest = ledger.manifest()
    if manifest is None:
        return PendingIndex(settings, embedder, facts, corpus, ledger)
    return CommittedIndex(settings, embedder, ledger, manifest, corpus.passed_over)


def find_index(settings: JobSettings, command: str) -> CommittedIndex:
    """The version that `index.version` or the current one names. Raises `DataError` when it doesn't fit."""
    uri = required(settings.index.uri, "index.uri", command)
    embedder = _embedder(settings)
    version = settings.index.version or current_version(uri)
    ledger = IndexLedger(uri, version) if version else None
    manifest = ledger.manifest() if ledger else None
    if ledger is None or manifest is None:
        what = f"no index version {version}" if version else "no index"
        raise DataError(f"index.{'version' if settings.index.version else 'uri'}: {what} in {uri}; run `ragjob index`")
    _check_facts(manifest, _index_facts(settings, embedder), embedder)
    return CommittedIndex(settings, embedder, ledger, manifest, [])


def identify_run(settings: JobSettings, command: str, version: str, embedder: Source) -> AnswerTask:
    """The run of these prompts on an index version. Raises when the prompts or the model aren't there."""
    prompts_uri = required(settings.prompts.uri, "prompts.uri", command)
    output_uri = required(settings.output.uri, "output.uri", command)
    prompts = list_prompts(prompts_uri)
    _check_apart(settings, prompts_uri, "prompts.uri", prompts)
    engine = _engine(settings, embedder)
    reranker = _reranker(settings)
    identity = schema.digest(_run_facts(settings, engine, reranker), version, listed(prompts))
    ledger = RunLedger(output_uri, settings.run_id or identity[:16], identity)
    return AnswerTask(settings, version, engine, prompts, ledger, reranker)


def _embedder(settings: JobSettings) -> Source:
    return resolve(settings.embed.model, settings.embed.revision, "embed.model", settings.models.cache)


def _reranker(settings: JobSettings) -> Source | None:
    rerank = settings.rerank
    return resolve(rerank.model, rerank.revision, "rerank.model", settings.models.cache) if rerank.model else None


def _engine(settings: JobSettings, embedder: Source) -> Engine[Generation]:
    around = Surroundings(
        settings.embed,
        embedder,
        settings.augment.max_context_tokens,
        settings.cluster.gpu_memory_gb(settings.generate.pool),
        settings.models.cache,
        mode_of(settings).uses_sentences,
        settings.retrieve.language,
    )
    return ENGINES[settings.generate.engine].open(settings.generate, around)


def _index_facts(settings: JobSettings, embedder: Source) -> dict[str, object]:
    """What decides an index's chunks and vectors besides the corpus, by setting."""
    facts = {
        f"{section}.{name}": value
        for section, values in _deciding(settings, Decides.INDEX).items()
        for name, value in values.items()
        if section != OF_THE_CORPUS
    }
    del facts["embed.revision"]  # which the model's content stands for
    return facts | {"embed.model": embedder.revision, "format": schema.INDEX_FORMAT, "metric": schema.METRIC}


def _run_facts(settings: JobSettings, engine: Engine[Generation], reranker: Source | None) -> dict[str, object]:
    """What decides a run's answers besides the index and the prompts."""
    retrieval = mode_of(settings)
    chosen = {"retrieve": retrieval.deciding(), "generate": engine.deciding()}
    if reranker:
        chosen["rerank"] = {"model": reranker.revision, "candidates": settings.rerank.candidates}
    deciding = _deciding(settings, Decides.RUN)
    del deciding["rerank"]  # which decides nothing without a model, and the model by its content
    return engine.facts() | {"format": schema.ANSWER_FORMAT} | deciding | chosen


def _deciding(settings: JobSettings, what: Decides) -> dict[str, dict[str, object]]:
    """The values that decide `what`, by section."""
    sections = {name: getattr(settings, name) for name in JobSettings.model_fields}
    values = {name: value.deciding(what) for name, value in sections.items() if isinstance(value, Section)}
    return {name: value for name, value in values.items() if value}


def _check_facts(manifest: IndexManifest, facts: dict[str, object], embedder: Source) -> None:
    if manifest.settings.get("format") != facts["format"]:
        raise DataError(f"index.uri: version {manifest.version} was made by another release; run `ragjob index`")
    for key, wanted in facts.items():
        made = manifest.settings.get(key)
        if made != wanted:
            if key == "embed.model":  # by name, too
                made, wanted = manifest.embed_model, embedder.label
            raise DataError(
                f"{key}: index version {manifest.version} was made with {made!r}, but the settings say {wanted!r}; "
                "set it back, or run `ragjob index` with these settings"
            )


def listed(listing: storage.Listing) -> list[tuple[str, int, str]]:
    """Path, size and tag of each input file."""
    return [(entry.path, entry.size, entry.tag) for entry in listing.entries]


def _check_apart(settings: JobSettings, uri: str, key: str, listing: storage.Listing) -> None:
    """Raise `SettingsError` when what the job writes would be among what it reads at `uri`, the value of `key`."""
    places = {"index.uri": settings.index.uri, "output.uri": settings.output.uri, "chroma.path": settings.chroma.path}
    for name, written in places.items():
        place = storage.join(storage.resolved(written), "") if written else None
        if place and any(entry.uri.startswith(place) for entry in listing.entries):
            raise SettingsError(f"{key}: {uri} holds files of {name}, {written}; name a folder or glob without them")
        if place and place.startswith(storage.join(storage.resolved(uri), "")):
            raise SettingsError(f"{name}: {written} lies inside {key}, {uri}, and would be read as input; move it out")


def _check_prompts_apart(settings: JobSettings, corpus_uri: str, corpus: storage.Listing) -> None:
    """Raise `SettingsError` when a file of prompts is in the corpus: each prompt would find itself."""
    prompts_uri = settings.prompts.uri
    if not prompts_uri or not _may_overlap(corpus_uri, prompts_uri):
        return
    with suppress(DataError):  # the prompts need not be there for an index
        documents = {entry.uri for entry in corpus.entries}
        for entry in list_prompts(prompts_uri).entries:
            if entry.uri in documents:
                raise SettingsError(
                    f"prompts.uri: {entry.listed_uri} is also in corpus.uri, {corpus_uri}, so each prompt would "
                    "retrieve itself; move the file out of the corpus, or exclude it with corpus.exclude"
                )


def _may_overlap(corpus: str, prompts: str) -> bool:
    """Return whether a file can be in both inputs: whether one begins, up to its wildcards, as the other does."""
    with storage.naming("prompts.uri"):
        first, second = before_wildcard(storage.resolved(corpus)), before_wildcard(storage.resolved(prompts))
    return first.startswith(second) or second.startswith(first)
