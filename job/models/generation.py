"""What every generator takes and gives."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One prompt: `user` is it with its passages filled in, `question` and `passages` are its parts."""

    system: str
    user: str
    question: str
    passages: list[str]


@dataclass(frozen=True)
class Completion:
    """One answer: `finish_reason` is `stop` or `length`, lengths are in the generator's tokens."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Generator(Protocol):
    def generate(self, requests: list[Request]) -> list[Completion]:
        """Answer every request, in the order given."""
        ...
