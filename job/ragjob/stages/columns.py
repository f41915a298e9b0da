"""What every stage says about its columns, and the check that the stages of a flow fit together."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import pyarrow as pa


class Stage(ABC):
    """One step of a flow: an Arrow table in, an Arrow table out.

    It needs the columns `NEEDS`, takes away `DROPS` and adds `ADDS`; other columns pass through.
    """

    NAME: ClassVar[str]
    NEEDS: ClassVar[pa.Schema]
    ADDS: ClassVar[pa.Schema] = pa.schema([])
    DROPS: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def __call__(self, rows: pa.Table, /) -> pa.Table:
        """Carry it out on one block. Raises `RagjobError` for what concerns the whole job."""


def check_columns(stages: Iterable[type[Stage]], given: pa.Schema) -> None:
    """Check the stages of a flow whose first one is `given` these columns.

    Raises `TypeError` for a stage that needs a column which isn't there or has another type, or adds one which is
    there already.
    """
    columns = {field.name: field.type for field in given}
    for stage in stages:
        for field in stage.NEEDS:
            _check_need(stage, field, columns.get(field.name))
        for name in stage.DROPS:
            columns.pop(name, None)
        for field in stage.ADDS:
            if field.name in columns:
                raise TypeError(f"stage {stage.NAME} adds column {field.name!r} ({field.type}), which is there already")
            columns[field.name] = field.type


def _check_need(stage: type[Stage], needed: pa.Field, present: pa.DataType | None) -> None:
    need = f"stage {stage.NAME} needs column {needed.name!r} ({needed.type})"
    if present is None:
        raise TypeError(f"{need}, which no stage before it adds")
    if not fits(present, needed.type):
        raise TypeError(f"{need}, which is {present}")


def fits(present: pa.DataType, stated: pa.DataType) -> bool:
    """Return whether a column of type `present` can stand in for `stated`: lists of one length can for lists of any.

    >>> fits(pa.list_(pa.float32(), 384), pa.list_(pa.float32()))
    True
    """
    if pa.types.is_list(stated) and (pa.types.is_list(present) or pa.types.is_fixed_size_list(present)):
        return fits(present.value_type, stated.value_type)
    return bool(present == stated)
