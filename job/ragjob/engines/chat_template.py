"""A model's chat template, rendered once: what it writes around a system message and a user's.

The template never sees a prompt, so no prompt can make it do anything. Imports neither torch nor transformers.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from ragjob.engines import rendering

TIMEOUT_S = 120.0  # of the process that renders, most of which is to import transformers
SYSTEM, USER = "zqsystemqz", "zquserqz"  # stand for the two texts
BLANK = "\N{EM SPACE}"  # stands on both sides of them, and is gone where the template strips a text
PLACE = re.compile(f"(?P<left>{BLANK}?)(?P<name>{SYSTEM}|{USER})(?P<right>{BLANK}?)")


@dataclass(frozen=True)
class ChatTemplate:
    """What a template writes with a system and a user message, and with a user message alone; None if it refuses.

    `SYSTEM` and `USER` mark where the texts go.
    """

    together: str | None
    alone: str | None

    @classmethod
    def of(cls, template: str, variables: Mapping[str, object]) -> Self:
        """Render `template`, which may use `variables`. Raises `ValueError` if it takes no user message."""
        system, user = _message("system", SYSTEM), _message("user", USER)
        asked = {"template": template, "variables": dict(variables), "chats": [[system, user], [user]]}
        (together, _), (alone, reason) = _render(json.dumps(asked))
        made = cls(_with(together, SYSTEM, USER), _with(alone, USER))
        if not (made.together or made.alone):
            raise ValueError(f"the chat template refuses a prompt: {reason or 'it leaves out the user message'}")
        return made

    def fill(self, system: str, user: str) -> str:
        """The prompt. Without a system role, the system text goes before the user's; an empty one is left out."""
        if system and not self.together:
            system, user = "", f"{system}\n\n{user}"
        frame = self.together if system or not self.alone else self.alone
        texts = {SYSTEM: system, USER: user}

        def text(place: re.Match[str]) -> str:
            content = texts[place["name"]]
            content = content if place["left"] else content.lstrip()
            return content if place["right"] else content.rstrip()

        return PLACE.sub(text, frame or "")


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": f"{BLANK}{content}{BLANK}"}


def _with(text: str | None, *names: str) -> str | None:
    """`text`, if it has each of `names` once."""
    return text if text and all(text.count(name) == 1 for name in names) else None


@lru_cache(8)  # of the few models of a process
def _render(asked: str) -> tuple[tuple[str | None, str | None], ...]:
    """What `rendering` answers: of each chat its text and the error, one of which is None."""
    command = [sys.executable, "-P", rendering.__file__]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"rendering the chat template takes more than {TIMEOUT_S:g} s") from error
    except subprocess.CalledProcessError as error:
        last = " ".join(error.stderr.split())[-200:]
        limits = f"{rendering.CPU_S} s of CPU time and {rendering.MEMORY_BYTES / 1e9:.1f} GB"
        raise ValueError(f"the chat template can't be rendered within {limits}: {last or 'it was ended'}") from error
    return tuple((text, error) for text, error in json.loads(done.stdout))
