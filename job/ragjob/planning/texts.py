"""Whether the texts suit the embedding model: their length, and the words in them."""

from dataclasses import dataclass

from ragjob.config import JobSettings
from ragjob.documents.units import sample
from ragjob.documents.vocabulary import Vocabulary
from ragjob.errors import SettingsError
from ragjob.ledger import schema
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.models.tokenizer import TOKENIZER, open_tokenizer, text_tokens
from ragjob.planning.identity import PendingIndex
from ragjob.stages.read import ReadDocuments

SAMPLED_DOCUMENTS, SAMPLED_BYTES = 16, 32_000_000  # a plan reads no more than that
MIN_TOKENS = 8  # of a text that a model has to read: the least that `chunk.size` may be
CONTEXT_TOKENS = 16  # of a title with headings: about what a short one takes


@dataclass(frozen=True)
class ChunkSizes:
    """How long chunks may be, and whether the longest ones leave too little for their context."""

    line: str
    is_tight: bool = False


@dataclass(frozen=True)
class SampledWords:
    """How many documents of the corpus were sampled, and the ids of those most of whose words `model` doesn't know."""

    model: str
    documents: int
    unknown: list[str]

    @property
    def line(self) -> str:
        """What a plan says about it."""
        if not self.documents:
            return "no document could be sampled"
        if not self.unknown:
            return f"{self.documents} documents sampled; {self.model} knows most of their words"
        return (
            f"{len(self.unknown)} of {self.documents} sampled documents consist mostly of words that {self.model} "
            f"doesn't know, so searches would rarely find them (the first is {self.unknown[0]}); "
            "set embed.model to a model for their language"
        )


def check_chunks(settings: JobSettings, embedder: Source) -> ChunkSizes:
    """How long chunks may be. Raises `SettingsError` when the model wouldn't read them to their end."""
    chunk, room = settings.chunk, _room(settings.embed, embedder, "document")
    if chunk.strategy == "line":
        reads = f"up to {room} tokens" if room else "all"
        return ChunkSizes(f"one chunk per line; the model reads {reads} of it")
    open_tokenizer(embedder)
    if room and chunk.size > room:
        raise SettingsError(
            f"chunk.size: {chunk.size} tokens, but {embedder.name} reads only {room} of a text, besides "
            f"embed.document_prefix and special tokens; set it to {room} at most"
        )
    reads = f"the model reads {room}" if room else "the model sets no limit"
    line = f"up to {chunk.size} tokens, sharing {chunk.overlap}; {reads}"
    if room is None or chunk.context == "none" or room - chunk.size >= CONTEXT_TOKENS:
        return ChunkSizes(line)
    remedy = f"set chunk.size to {room - CONTEXT_TOKENS} at most, or " * (room - CONTEXT_TOKENS >= MIN_TOKENS)
    return ChunkSizes(
        f"{line}, which leaves {room - chunk.size} for a chunk's title and headings, so that most of them are cut off; "
        f"{remedy}set chunk.context to none",
        is_tight=True,
    )


def check_questions(settings: JobSettings, embedder: Source) -> str:
    """How much of a prompt counts in a search. Raises `SettingsError` when that is next to nothing."""
    room = _room(settings.embed, embedder, "query")
    return f"by the first {room} tokens of a prompt" if room else "by the whole prompt"


def check_words(index: PendingIndex) -> SampledWords:
    """Sample documents for words that the model doesn't know; none are sampled if it has no `tokenizer.json`."""
    if TOKENIZER not in index.embedder.files.sizes:
        return SampledWords(index.embedder.name, 0, [])
    vocabulary = Vocabulary(open_tokenizer(index.embedder))
    unit = sample(index.segments, SAMPLED_DOCUMENTS, SAMPLED_BYTES)
    documents = ReadDocuments(index.settings.corpus, frozenset())(unit).to_pylist()
    texts = {document[schema.DOCUMENT_ID]: document[schema.TEXT] for document in documents if not document["error"]}
    unknown = [name for name, text in texts.items() if vocabulary.unknown_share(text) > schema.UNKNOWN_LIMIT]
    return SampledWords(index.embedder.name, len(texts), unknown)


def _room(embed: Embed, embedder: Source, task: str) -> int | None:
    """Tokens of a text that the model reads beside prefix and special tokens; None if it doesn't say."""
    room = text_tokens(embed, embedder, task)
    if room is not None and room < MIN_TOKENS:
        raise SettingsError(
            f"embed.{task}_prefix: the prefix and special tokens leave {max(room, 0)} of the tokens that the model "
            "reads of a text; shorten the prefix, or raise embed.max_length if that is set"
        )
    return room
