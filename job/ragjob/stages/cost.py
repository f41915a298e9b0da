"""What a stage spent."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Cost:
    """What one stage spent.

    Attributes:
        stage: its name, such as `embed`.
        rows: rows that it produced.
        errors: how many of these have an error.
        seconds: its workers' time, added up.
        prompt_tokens: tokens that it read.
        cached_tokens: how many of these had already been computed for another prompt that begins alike.
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
        """Both together, for the same stage."""
        sums = {field.name: getattr(self, field.name) + getattr(more, field.name) for field in fields(Cost)[1:]}
        return Cost(self.stage, **sums)
