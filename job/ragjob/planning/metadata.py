"""Whether the metadata and the prompts' columns that `retrieve.where` names are there."""

import pyarrow as pa

from ragjob.config import JobSettings
from ragjob.documents.readers import TABLES, is_read
from ragjob.documents.tables import is_plain
from ragjob.errors import DataError
from ragjob.planning.identity import AnswerTask, CommittedIndex, PendingIndex
from ragjob.retrieval.where import columns_of, described

OF_FILES = ("path", "size")  # what each file that is one document has as metadata


def check_filter(index: PendingIndex | CommittedIndex, task: AnswerTask) -> str:
    """What passages must have, in one line. Raises `DataError` for a name or a column that isn't there."""
    settings = task.settings
    later = ""
    if isinstance(index, CommittedIndex):
        check_names(index)
    elif unsure := _unsure(settings, index):
        later = f"; whether documents have {', '.join(unsure)} is known once they are read"
    for name in columns_of(settings.retrieve.where):
        _check_column(name, task.inputs.passed)
    return f"passages whose {described(settings.retrieve.where)}{later}"


def check_names(index: CommittedIndex) -> None:
    """Raise `DataError` for a name of metadata that no document of a version has."""
    known = index.manifest.metadata
    for name in index.settings.retrieve.where:
        if name not in known:
            raise _unknown(name, f"index version {index.ledger.version}", known)


def _unsure(settings: JobSettings, index: PendingIndex) -> list[str]:
    """The names that documents of files may have, or not. Raises `DataError` for one that rows can't have."""
    known = list(settings.corpus.metadata_columns)
    rows_alone = all(is_read(entry.path, TABLES) for entry in index.corpus.entries)
    unsure = [name for name in settings.retrieve.where if name not in {*known, *OF_FILES}]
    if rows_alone and (missing := [name for name in settings.retrieve.where if name not in known]):
        raise _unknown(missing[0], "the corpus", known)
    return unsure


def _unknown(name: str, where: str, known: list[str]) -> DataError:
    has = ", ".join(known) or "none"
    return DataError(
        f"retrieve.where: no metadata {name!r} in {where}, which has {has}; correct it, or name the column in "
        "corpus.metadata_columns"
    )


def _check_column(name: str, passed: pa.Schema) -> None:
    if name not in passed.names:
        has = ", ".join(passed.names) or "none"
        raise DataError(
            f"retrieve.where: no column {name!r} passes through from the prompts (those that do: {has}); "
            "add the column to the prompts, or correct the filter"
        )
    kind = passed.field(name).type
    if not is_plain(kind.value_type if pa.types.is_list(kind) else kind):
        raise DataError(
            f"retrieve.where: column {name!r} of the prompts holds {kind}; it must hold values, or lists of them"
        )
