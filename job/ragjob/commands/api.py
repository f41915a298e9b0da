"""The commands as functions, for programs."""

from ragjob.commands.answer import Answer
from ragjob.commands.index import Index
from ragjob.commands.load import Load
from ragjob.commands.report import Leftover, Report
from ragjob.commands.run import Run
from ragjob.config import JobSettings
from ragjob.runtime.progress import Observe, Progress, silent

__all__ = ["Progress", "answer", "clean", "index", "load", "run"]


def index(settings: JobSettings, observe: Observe = silent) -> Report:
    """Chunk and embed the corpus into a version below `index.uri`, and load it into a permanent Chroma server.

    Does nothing if the version already exists. Resumes what an earlier attempt has staged.

    Args:
        settings: the job's settings, with `corpus.uri` and `index.uri`.
        observe: called with each stage's `Progress` several times a second, in a thread of this process.

    Returns:
        The version, its numbers of chunks and failed documents, and the cost of each stage.

    Raises:
        SettingsError: a setting is missing, or asks for more than this machine or the cluster has.
        DependencyError: storage, Chroma, Ray or the embedding model can't be used.
        DataError: the corpus is missing, malformed or without text.
        TooManyFailures: a larger share of the documents failed than `errors.max_rate` allows.
    """
    return Index.of(settings).execute(observe)


def load(settings: JobSettings, observe: Observe = silent) -> Report:
    """Load a committed index version into a permanent Chroma server, verify it, and make it the current version.

    Args:
        settings: the job's settings, with `index.uri`, and `chroma.url` or `chroma.path`.
        observe: called with a `Progress` while rows are loaded.

    Returns:
        The version, its number of chunks, and the cost of loading them.

    Raises:
        SettingsError: a setting is missing.
        DependencyError: storage or Chroma can't be used.
        DataError: the version doesn't exist, or was made with other settings.
    """
    return Load.of(settings).execute(observe)


def answer(settings: JobSettings, observe: Observe = silent) -> Report:
    """Answer the prompts from a committed index version: one row per prompt in one `answers.parquet`.

    Does nothing if the run is already published. Resumes what an earlier attempt has staged.

    Args:
        settings: the job's settings, with `prompts.uri`, `index.uri` and `output.uri`.
        observe: called with each stage's `Progress` several times a second, in a thread of this process.

    Returns:
        Where the answers are, how many prompts there are and how many failed, and the cost of each stage.

    Raises:
        SettingsError: a setting is missing, or asks for more than this machine or the cluster has.
        DependencyError: storage, Chroma, Ray or a model can't be used.
        DataError: the prompts are missing or malformed, or the index is missing or was made with other settings.
        TooManyFailures: a larger share of the prompts failed than `errors.max_rate` allows.
    """
    return Answer.of(settings).execute(observe)


def run(settings: JobSettings, observe: Observe = silent) -> Report:
    """Index the corpus, then answer the prompts from that version.

    Does whatever is left of the two, with one Ray and one Chroma server.

    Args:
        settings: the job's settings, with `corpus.uri`, `prompts.uri`, `index.uri` and `output.uri`.
        observe: called with each stage's `Progress` several times a second, in a thread of this process.

    Returns:
        The same as `answer`, with the costs of both.

    Raises:
        SettingsError: a setting is missing, or asks for more than this machine or the cluster has.
        DependencyError: storage, Chroma, Ray or a model can't be used.
        DataError: the corpus or the prompts are missing or malformed.
        TooManyFailures: a larger share of documents or prompts failed than `errors.max_rate` allows.
    """
    return Run.of(settings).execute(observe)


def clean(settings: JobSettings, *, remove: bool = False) -> list[Leftover]:
    """Find what jobs have left behind that is no longer needed, below `index.uri` and `output.uri` and in Chroma.

    Args:
        settings: the job's settings, with `index.uri` or `output.uri`; `keep` decides what stays, and for how long.
        remove: also remove it, except what a job has started to use again.

    Returns:
        What can be removed; with `remove`, what has been removed.

    Raises:
        SettingsError: neither `index.uri` nor `output.uri` is set.
        DependencyError: storage or Chroma can't be used.
        DataError: a file that says which versions are needed is damaged, or was written by a newer release.
    """
    from ragjob.commands.clean import Clean  # imports what the other commands do without

    return Clean.of(settings).execute(remove=remove)
