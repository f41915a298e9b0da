"""Settings of what the generator is told."""

import string

from pydantic import field_validator

from ragjob.settings import Decides, Section, setting

SYSTEM = "You answer questions from the passages you are given. If they hold no answer, say so."
# Passages come first: prompts that share them share a prefix, which an engine can cache.
TEMPLATE = "Passages:\n{context}\n\nQuestion: {prompt}\nAnswer:"


class Augment(Section):
    system: str = setting(SYSTEM, decides=Decides.RUN, description="system message")
    template: str = setting(TEMPLATE, decides=Decides.RUN, description="user message, with {context} and {prompt}")
    sources: bool = setting(
        False, decides=Decides.RUN, description="name each passage's document (by its title) and page in the prompt"
    )
    max_context_tokens: int = setting(
        1500,
        decides=Decides.RUN,
        description="at most this many tokens of passages in a prompt, and eight times as many characters",
        ge=16,
    )

    @field_validator("template")
    @classmethod
    def _has_its_fields(cls, template: str) -> str:
        try:
            parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
        except ValueError as error:
            raise ValueError(f"not a template: {error}; write {{{{ and }}}} for braces") from error
        if sorted(str(field) for field, _, _ in parts) != ["context", "prompt"]:
            raise ValueError("must contain {context} and {prompt}, each exactly once, and no other field")
        if any(specification or conversion for _, specification, conversion in parts):
            raise ValueError("must contain {context} and {prompt} as they are, without a format such as {prompt:>9}")
        return template
