"""Write the parts of docs/settings.md that follow from the program: its help, and the table of settings.

`make docs` runs it; tests/test_docs.py compares.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from ragjob.config import JobSettings

PAGE = Path(__file__).with_name("settings.md")


def page() -> str:
    """docs/settings.md as it should be."""
    text = PAGE.read_text("utf-8")
    text = _between("help", f"```\n{help_text()}\n```\n", text)
    return _between("settings", f"\n{settings_table()}\n", text)


def settings_table() -> str:
    """Every setting with its default and meaning."""
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *_rows(JobSettings)])


def help_text() -> str:
    """What `ragjob --help` prints on a terminal of 100 columns."""
    command = [Path(sys.executable).with_name("ragjob"), "--help"]
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb"}
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in shown.strip().split("\n"))


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, f"{prefix}{name}.")
        else:
            default = "" if field.default is None else f"`{json.dumps(field.default)}`".replace("|", r"\|")
            yield f"| `{prefix}{name}` | {default} | {field.description} |"


def _between(mark: str, content: str, text: str) -> str:
    """`text` with `content` from the line of a mark to the blank line before what follows it."""
    ends = {"help": r"```\n.*?\n```\n", "settings": r"\n\|.*?\|\n(?=\n)"}
    return re.sub(rf"(?<=<!-- {mark} -->\n){ends[mark]}", lambda _: content, text, flags=re.S)


def main() -> None:
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
