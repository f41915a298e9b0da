"""What a running flow tells of itself."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one stage of a running command is.

    Attributes:
        stage: its name; stages that run in one worker come together, as `retrieve + augment`.
        rows: rows that it gave so far.
        share: part of the command's blocks of rows that it has finished, from 0 to 1.
    """

    stage: str
    rows: int
    share: float


Observe = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Observe nothing."""
