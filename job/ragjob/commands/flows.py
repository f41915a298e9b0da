"""The flows, each a list of steps."""

from functools import partial

from ragjob.config import JobSettings
from ragjob.ledger import schema
from ragjob.ledger.sentences import StagedSentences
from ragjob.models.capacity import Resources, threads
from ragjob.planning.identity import AnswerTask, CommittedIndex, PendingIndex, mode_of
from ragjob.planning.packing import pack, pools
from ragjob.retrieval import MODES
from ragjob.retrieval.base import Served
from ragjob.runtime.flow import Step
from ragjob.stages import augment, chunk, embed, generate, rerank, retrieve
from ragjob.stages.augment import AugmentStage
from ragjob.stages.chunk import ChunkStage
from ragjob.stages.columns import Stage
from ragjob.stages.embed import EmbedChunks, EmbeddingStage, EmbedPrompts
from ragjob.stages.generate import GenerateStage
from ragjob.stages.read import ReadDocuments, ReadPrompts
from ragjob.stages.rerank import RerankStage
from ragjob.stages.retrieve import RetrieveStage
from ragjob.stages.sentences import EmbedSentences, ReadPart, WriteSentences
from ragjob.stages.write import WriteAnswers, WriteChunks, WriteChunksAndSentences


def index_steps(index: PendingIndex, size: Resources) -> list[Step]:
    """From units of the corpus to parts of an index version's segment."""
    settings, model, ledger = index.settings, index.embedder, index.ledger.segment
    corpus, chunks, embedding, done = settings.corpus, settings.chunk, settings.embed, ledger.done()
    count, turn = threads(embedding.pool, size), _turns(settings, "index", size)
    stages: list[type[EmbeddingStage]] = [EmbedChunks]
    write = Step([WriteChunks], lambda: [WriteChunks(ledger)])
    if mode_of(settings).uses_sentences:
        stages.append(EmbedSentences)
        staged = StagedSentences(index.ledger.uri, index.ledger.version)
        write = Step([WriteChunksAndSentences], lambda: [WriteChunksAndSentences(ledger, staged)])
    return [
        Step([ReadDocuments, ChunkStage], lambda: [ReadDocuments(corpus, done), chunk.make(chunks, embedding, model)]),
        Step(
            stages,
            lambda: embed.make_for_documents(stages, embedding, model, ledger.settle_dtype, count),
            embedding.pool,
            at_once=embed.BLOCKS_AT_ONCE,
            turn=turn["embed"],
        ),
        write,
    ]


def sentence_steps(index: CommittedIndex, size: Resources) -> list[Step]:
    """From the parts of an index to their sentences."""
    embedding, model, dtype, staged = index.settings.embed, index.embedder, index.manifest.dtype, index.sentences.staged
    segment, count = index.ledger.segment, threads(embedding.pool, size)

    def make() -> list[Stage]:
        made = embed.make_for_documents([EmbedSentences], embedding, model, lambda measure: dtype, count)
        return [ReadPart(segment), *made]

    return [
        Step(
            [ReadPart, EmbedSentences],
            make,
            embedding.pool,
            at_once=embed.BLOCKS_AT_ONCE,
            turn=_turns(index.settings, "index", size)["embed"],
        ),
        Step([WriteSentences], lambda: [WriteSentences(staged)]),
    ]


def answer_steps(index: CommittedIndex, task: AnswerTask, size: Resources, served: Served) -> list[Step]:
    """From units of the prompts to parts of a run."""
    settings, ledger, engine, embedder = task.settings, task.ledger, task.engine, index.embedder
    # Sections alone travel to the workers.
    prompts, embedding, filling, answering = settings.prompts, settings.embed, settings.augment, settings.generate
    passed, dtype = task.inputs.passed, index.manifest.dtype
    embedding_threads, answering_threads = threads(embedding.pool, size), threads(answering.pool, size)
    turn = _turns(settings, "answer", size)
    provenance = {
        "embed_model": index.manifest.embed_model,
        "generate_model": engine.label,
        "index_version": index.manifest.version,
        "run_id": ledger.run_id,
    }
    return [
        Step([ReadPrompts], lambda: [ReadPrompts(prompts, passed)]),
        Step(
            [EmbedPrompts],
            lambda: [embed.make_for_prompts(embedding, embedder, dtype, embedding_threads)],
            embedding.pool,
            at_once=embed.BLOCKS_AT_ONCE,
            turn=turn["embed"],
        ),
        *_finding(task, size, served, turn),
        Step(
            [GenerateStage],
            lambda: [generate.make(engine, filling, dtype, answering_threads)],
            answering.pool,
            at_once=engine.blocks_at_once(settings.commit_rows),
            retries=answering.max_engine_restarts,
            environment=engine.environment(),
            turn=turn["generate"],
        ),
        Step([WriteAnswers], lambda: [WriteAnswers(ledger, schema.answers(passed), provenance)]),
    ]


def _finding(task: AnswerTask, size: Resources, served: Served, turn: dict[str, int]) -> list[Step]:
    """From embedded prompts to those with their passages filled in."""
    settings, measure, model = task.settings, task.engine.measure, task.reranker
    finding, ranking, filling = settings.retrieve, settings.rerank, settings.augment
    # With a model that reranks, what is found is what it chooses from.
    top_k = max(ranking.candidates, finding.top_k) if model else finding.top_k
    mode = MODES[finding.mode](finding.model_copy(update={"top_k": top_k}))
    find, fill = partial(retrieve.make, mode, served), partial(augment.make, filling, measure)
    pool, at_once, when = finding.pool, retrieve.BLOCKS_AT_ONCE, turn["retrieve"]
    if model is None:
        return [Step([RetrieveStage, AugmentStage], lambda: [find(), fill()], pool, at_once=at_once, turn=when)]
    rank = partial(rerank.make, ranking, model, finding.top_k, threads(ranking.pool, size))
    return [
        Step([RetrieveStage], lambda: [find()], pool, at_once=at_once, turn=when),
        Step(
            [RerankStage, AugmentStage],
            lambda: [rank(), fill()],
            ranking.pool,
            at_once=rerank.BLOCKS_AT_ONCE,
            turn=turn["rerank"],
        ),
    ]


def _turns(settings: JobSettings, flow: str, size: Resources) -> dict[str, int]:
    """When the places of each pool are taken, 1 for the first; 0 where Ray may place actors as it likes."""
    reserved = pack(settings, flow, size).reserved
    return {name: reserved.index(name) + 1 if reserved else 0 for name in pools(settings, flow)}
