"""What a stage spent."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Cost:
    """What one stage spent.

    Attributes:
        stage: its name, as `embed`.
        rows: rows that it gave.
        errors: those of them that have an error.
        seconds: its workers' time, added up.
        prompt_tokens: tokens that it read.
        cached_tokens: those of them that had been computed before, for prompts that begin alike.
        wrong_citations: passages that its answers cite but weren't given.
    """

    stage: str
    rows: int
    errors: int
    seconds: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    wrong_citations: int = 0

    def __add__(self, more: "Cost") -> "Cost":
        """Both together, of the same stage."""
        sums = {field.name: getattr(self, field.name) + getattr(more, field.name) for field in fields(Cost)[1:]}
        return Cost(self.stage, **sums)
