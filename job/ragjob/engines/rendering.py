"""Renders a chat template for messages. A program of its own: a template comes with a model, and may never end.

Reads from standard input, as JSON, `template`, its `variables`, and `chats`, each a list of messages. Writes as JSON,
for each chat, its text and the error, one of which is null.
"""

import json
import resource
import sys
from pathlib import Path

MEMORY_BYTES = 512 * 2**20  # beyond what the libraries take
CPU_S = 10
MOST_CHARS = 100_000  # of a text; those of published templates have hundreds to a few thousand


def main() -> None:
    """Render within `MEMORY_BYTES` and `CPU_S`; the system ends this process where it takes longer."""
    from transformers.utils.chat_template_utils import render_jinja_template

    asked = json.load(sys.stdin)
    _limit()

    def render(chat: list[dict[str, str]]) -> tuple[str | None, str | None]:
        try:
            (text,), _ = render_jinja_template(
                [chat], chat_template=asked["template"], add_generation_prompt=True, **asked["variables"]
            )
        except MemoryError:
            return None, f"it takes more than {MEMORY_BYTES / 1e9:.1f} GB"
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            return None, f"{type(error).__name__}: {error}"[:300]
        return (text, None) if len(text) <= MOST_CHARS else (None, f"it writes more than {MOST_CHARS:,} characters")

    json.dump([render(chat) for chat in asked["chats"]], sys.stdout)


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY_BYTES)
    _lower(resource.RLIMIT_CPU, int(spent.ru_utime + spent.ru_stime) + CPU_S)


def _lower(kind: int, limit: int) -> None:
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


if __name__ == "__main__":
    main()
