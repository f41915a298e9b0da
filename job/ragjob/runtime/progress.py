"""What a running command reports about itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """How far along a stage of a running command is, or what the command does before and after its stages.

    Attributes:
        stage: its name; stages that run in one worker are reported together, such as `retrieve + augment`. Outside a
            flow, what the command is doing, such as `starting Ray`.
        rows: rows that it has finished.
        share: part of the flow's blocks of rows that it has finished, from 0 to 1.
        flow: `index`, `sentences`, `load` or `answer`; empty before, between and after these.
    """

    stage: str
    rows: int
    share: float
    flow: str = ""


Observe = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Observe nothing."""


def of_flow(flow: str, observe: Observe) -> Observe:
    """`observe`, for the stages of a flow."""
    return lambda progress: observe(replace(progress, flow=flow))


def tell(observe: Observe, what: str) -> None:
    """Report what the command does from now on."""
    observe(Progress(what, 0, 0.0))
