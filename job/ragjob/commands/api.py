"""The commands as functions, for programs."""

from ragjob.commands.answer import Answer
from ragjob.commands.index import Index
from ragjob.commands.load import Load
from ragjob.commands.report import Leftover, Report
from ragjob.commands.run import Run
from ragjob.config import JobSettings
from ragjob.runtime.progress import Observe, silent


def index(settings: JobSettings, observe: Observe = silent) -> Report:
    """Chunk and embed the corpus into a version below `index.uri`, and load it where a Chroma server lasts.

    Does nothing for a version that is there already, and goes on from what an earlier attempt has staged.

    Args:
        settings: the job's settings, with `corpus.uri` and `index.uri`.
        observe: is called with a `Progress` of each stage, a few times a second, in a thread of this process.

    Returns:
        The version, its chunks, its failed documents, and what each stage spent.

    Raises:
        SettingsError: a setting is missing, or doesn't fit this machine or the cluster.
        DependencyError: storage, Chroma, Ray or the embedding model can't be used.
        DataError: the corpus is missing, malformed or without text.
        TooManyFailures: a larger share of the documents failed than `errors.max_rate` allows.
    """
    return Index.of(settings).execute(observe)


def load(settings: JobSettings, observe: Observe = silent) -> Report:
    """Load a committed index version into a Chroma server that lasts, verify it there, and make it the current one.

    Args:
        settings: the job's settings, with `index.uri`, and `chroma.url` or `chroma.path`.
        observe: is called with a `Progress` as rows are loaded.

    Returns:
        The version, its chunks, and what loading them took.

    Raises:
        SettingsError: a setting is missing.
        DependencyError: storage or Chroma can't be used.
        DataError: there is no such version, or it was made with other settings.
    """
    return Load.of(settings).execute(observe)


def answer(settings: JobSettings, observe: Observe = silent) -> Report:
    """Answer the prompts from a committed index version: one row per prompt in one `answers.parquet`.

    Does nothing for a run that is published already, and goes on from what an earlier attempt has staged.

    Args:
        settings: the job's settings, with `prompts.uri`, `index.uri` and `output.uri`.
        observe: is called with a `Progress` of each stage, a few times a second, in a thread of this process.

    Returns:
        Where the answers are, how many prompts have an answer and how many an error, and what each stage spent.

    Raises:
        SettingsError: a setting is missing, or doesn't fit this machine or the cluster.
        DependencyError: storage, Chroma, Ray or a model can't be used.
        DataError: the prompts are missing or malformed, or the index is missing or was made with other settings.
        TooManyFailures: a larger share of the prompts failed than `errors.max_rate` allows.
    """
    return Answer.of(settings).execute(observe)


def run(settings: JobSettings, observe: Observe = silent) -> Report:
    """Index the corpus, then answer the prompts from that version.

    Does what is left to do of either, in one Ray and with one Chroma server.

    Args:
        settings: the job's settings, with `corpus.uri`, `prompts.uri`, `index.uri` and `output.uri`.
        observe: is called with a `Progress` of each stage, a few times a second, in a thread of this process.

    Returns:
        What `answer` gives, with the costs of both.

    Raises:
        SettingsError: a setting is missing, or doesn't fit this machine or the cluster.
        DependencyError: storage, Chroma, Ray or a model can't be used.
        DataError: the corpus or the prompts are missing or malformed.
        TooManyFailures: a larger share of documents or prompts failed than `errors.max_rate` allows.
    """
    return Run.of(settings).execute(observe)


def clean(settings: JobSettings, *, remove: bool = False) -> list[Leftover]:
    """Find what jobs left that nothing needs any more, below `index.uri` and `output.uri` and in Chroma.

    Args:
        settings: the job's settings, with `index.uri` or `output.uri`; `keep` says what stays, and for how long.
        remove: remove it, too. What a job needs again by then stays.

    Returns:
        What could go; with `remove`, what has gone.

    Raises:
        SettingsError: neither `index.uri` nor `output.uri` is set.
        DependencyError: storage or Chroma can't be used.
        DataError: a file that says which versions are needed is damaged, or of a newer release.
    """
    from ragjob.commands.clean import Clean  # imports what the other commands do without

    return Clean.of(settings).execute(remove=remove)
