"""The base of every engine: what a plan asks it, and what it runs in a worker."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar

from ragjob.engines.settings import Generation
from ragjob.models.capacity import Place, Proposal, Resources, Work, spread
from ragjob.models.files import Source
from ragjob.models.settings import Embed
from ragjob.settings import Decides

if TYPE_CHECKING:
    from ragjob.ledger.schema import Sentence

QUESTION_TOKENS = 200  # of a question and what stands around it, about


@dataclass(frozen=True)
class Request:
    """One prompt: `user` is the message with its passages filled in, `question` and `passages` are its parts.

    `bare` is `user` without these parts: the model's control tokens in it come from the settings. `scores` are what
    ranked the passages, `similarities` their cosine similarities, if these are known. `sentences` are those of each
    passage (none if it has only one), or None if the index has no vectors of them.
    """

    system: str
    user: str
    question: str
    passages: list[str]
    bare: str = ""
    scores: list[float] | None = None
    similarities: list[float] | None = None
    sentences: "list[list[Sentence]] | None" = None


@dataclass(frozen=True)
class Completion:
    """One answer: `finish_reason` is `stop` or `length`, or what an API says; lengths are in the generator's tokens.

    Of the prompt's tokens, `cached_tokens` had been computed before, for another prompt that begins alike. A length is
    None if an API doesn't report it.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int = 0


@dataclass(frozen=True)
class Failure:
    """Why one request has no answer."""

    error: str


class Generator(Protocol):
    """What an engine runs in its workers."""

    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        """Answer every request, in the order given; one that can't be answered fails alone."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """What an engine works with besides its own settings.

    `embed` and `embedder` are the embedding model of the index, `passage_tokens` the most that a prompt may have,
    `gpu_gb` the memory of the smallest GPU in GB where it is known, `cache` the folder for models from `s3://`.
    `sentences` tells whether passages come with the similarities of their sentences, `language` is that of the corpus.
    """

    embed: Embed
    embedder: Source
    passage_tokens: int
    gpu_gb: float | None
    cache: str
    sentences: bool = False
    language: str = "en"


S = TypeVar("S", bound=Generation)


@dataclass(frozen=True)
class Engine(ABC, Generic[S]):
    """One way to answer prompts, with all that is known about it before it runs. Imports no heavy library.

    The defaults suit an engine without a model of its own, such as a remote API.
    """

    name: ClassVar[str]
    summary: ClassVar[str]  # completes its name in the settings' table
    Settings: ClassVar[type[Generation]] = Generation
    # Of its settings that decide a run, those which don't count as they are: `facts` has the model by its content.
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"engine", "model", "revision"})

    settings: S
    around: Surroundings

    @classmethod
    def open(cls, settings: S, around: Surroundings) -> Self:
        """The engine, with the model that its settings name, which is looked up but not downloaded.

        Raises:
            SettingsError: the model has no such revision.
            DataError: there is no such model.
            DependencyError: hub or bucket can't be reached.
        """
        return cls(settings, around)

    @property
    @abstractmethod
    def label(self) -> str:
        """What answers, as `name@revision`: the answers' column `generate_model`."""

    @property
    def measure(self) -> Source:
        """The model whose tokens the passages of a prompt are counted in."""
        return self.around.embedder

    @property
    def sequence_tokens(self) -> int:
        """About how many tokens the longest prompt has with its answer."""
        return self.around.passage_tokens + QUESTION_TOKENS + self.settings.max_new_tokens

    def facts(self) -> dict[str, object]:
        """What decides answers, by setting, besides the settings that `deciding` returns: models, by their content."""
        return {"generate.model": None}

    def deciding(self) -> dict[str, object]:
        """The settings that decide answers, by name."""
        values = self.settings.deciding(Decides.RUN)
        names = self.Settings.model_fields.keys() - self.LEFT_OUT
        return {"engine": self.name} | {name: value for name, value in values.items() if name in names}

    def check(self) -> str:
        """What the engine needs, in a few words. Raises a `RagjobError` when it isn't there, or doesn't fit."""
        return self.name

    def check_prompt(self) -> str:
        """What fits into a prompt, in a few words. Raises a `RagjobError` if nothing fits, or it can't be counted."""
        from ragjob.models.tokenizer import open_tokenizer  # imports tokenizers, which a finished run does without

        open_tokenizer(self.measure)
        return f"up to {self.around.passage_tokens} tokens of passages"

    def actor_bytes(self) -> int:
        """Bytes of its node's memory that an actor takes in addition to its process."""
        return 0

    def place(self, size: Resources, work: Work) -> Place:
        """How many actors it should have on a cluster of `size`, each with how much of a GPU."""
        return spread(size, work)

    def proposals(self, place: Place) -> list[Proposal]:
        """Values of its own settings that would suit its actors at `place` better."""
        return []

    def environment(self) -> dict[str, str]:
        """Variables that its processes have to start with."""
        return {}

    def blocks_at_once(self, rows: int) -> int:
        """How many blocks of `rows` prompts one actor holds at a time."""
        return 1

    @abstractmethod
    def make(self, dtype: str, threads: int) -> Generator:
        """Make what answers in a worker: `dtype` is that of the index's vectors, `threads` are for CPUs.

        Raises `DataError` or `DependencyError` for a model that can't be loaded.
        """
