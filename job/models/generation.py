"""What every generator takes and gives."""

from dataclasses import dataclass
from typing import Protocol

# Sequences at once of vLLM, where `generate.vllm` doesn't say max_num_seqs.
VLLM_SEQUENCES = 256


@dataclass(frozen=True)
class Request:
    """One prompt: `user` is it with its passages filled in, `question` and `passages` are its parts."""

    system: str
    user: str
    question: str
    passages: list[str]


@dataclass(frozen=True)
class Completion:
    """One answer: `finish_reason` is `stop` or `length`, lengths are in the generator's tokens.

    Of the prompt's tokens, `cached_tokens` were computed before, for another prompt that begins alike. A length is
    None where an API doesn't tell it.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int = 0


@dataclass(frozen=True)
class Failure:
    """Why one request has no answer."""

    error: str


class Generator(Protocol):
    def generate(self, requests: list[Request]) -> list[Completion | Failure]:
        """Answer every request, in the order given; one that can't be answered fails alone."""
        ...
