"""What a running flow tells of itself."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one stage is: `rows` it gave, and the share of the flow's blocks that it is through with."""

    stage: str
    rows: int
    share: float


Observe = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Observe nothing."""
