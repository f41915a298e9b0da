"""Write docs/api.md from the signatures and docstrings of all that `ragjob` exports.

`make docs` runs it; tests/test_docs.py compares. Docstrings are in Google's style.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from textwrap import dedent
from types import FunctionType

import ragjob
from ragjob.errors import RagjobError

PAGE = Path(__file__).with_name("api.md")
HEAD = """\
<!-- Written by `make docs` from signatures and docstrings: change those. -->
# Python API

"""
_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes):\n", re.M)
_ITEM = re.compile(r"^(\w+): (.*(?:\n .*)*)", re.M)  # a name, and what goes on in indented lines

Types = dict[str, str]


def page() -> str:
    """The whole page."""
    exported = [getattr(ragjob, name) for name in ragjob.__all__]
    functions = [thing for thing in exported if isinstance(thing, FunctionType)]
    errors = [thing for thing in exported if isinstance(thing, type) and issubclass(thing, RagjobError)]
    records = [thing for thing in exported if isinstance(thing, type) and is_dataclass(thing)]
    (settings,) = [thing for thing in exported if thing not in (*functions, *errors, *records)]
    parts = [
        _text(inspect.getdoc(ragjob)),
        "## Functions",
        *(part for function in functions for part in _function(function)),
        "## Settings",
        *_class(settings),
        "The table is on the page [Settings](settings.md#settings).",
        "## Results",
        *(part for record in records for part in _class(record)),
        "## Errors",
        "\n".join(_errors(errors)),
    ]
    return HEAD + "\n\n".join(parts) + "\n"


def _function(function: FunctionType) -> Iterator[str]:
    source = inspect.getsource(function)
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    signature = "\n".join(source.splitlines()[: node.body[0].lineno - 1])
    yield f"### {function.__name__}"
    yield f"```python\n{signature.removesuffix(':')}\n```"
    yield _text(inspect.getdoc(function))


def _class(kind: type) -> Iterator[str]:
    (node,) = ast.parse(inspect.getsource(kind)).body
    fields = [line for line in ast.walk(node) if isinstance(line, ast.AnnAssign)]
    types = {ast.unparse(field.target): ast.unparse(field.annotation) for field in fields}
    yield f"### {kind.__name__}"
    yield _text(inspect.getdoc(kind), types if is_dataclass(kind) else {})
    for name, member in vars(kind).items():
        if isinstance(member, property):
            yield f"Property `{name}`: {_text(inspect.getdoc(member))}"


def _errors(kinds: list[type[RagjobError]]) -> Iterator[str]:
    yield "| error | exit code | meaning |"
    yield "|---|---|---|"
    for kind in sorted(kinds, key=lambda kind: (kind.exit_code, len(kind.mro()))):
        yield f"| `{kind.__name__}` | {kind.exit_code} | {_text(inspect.getdoc(kind))} |"


def _text(docstring: str | None, types: Types | None = None) -> str:
    """A docstring as Markdown: its sections as lists, with the `types` of the names in them; its example as code."""
    first, *sections = _SECTION.split(docstring or "")
    shown = [_with_code(first.strip())]
    for name, body in zip(sections[::2], sections[1::2], strict=True):
        shown.append(f"**{name}**")
        shown.append(_items(dedent(body).strip(), types or {}))
    return "\n\n".join(shown)


def _items(body: str, types: Types) -> str:
    """The items of a section as a list, with the types of those that have one; a section without items as it is."""
    shown = []
    for name, text in _ITEM.findall(body):
        kind = f" (`{types[name]}`)" if name in types else ""
        shown.append(f"- `{name}`{kind}: {' '.join(text.split())}")
    return "\n".join(shown) or body


def _with_code(text: str) -> str:
    return re.sub(r"^>>> .*(?:\n.+)*", lambda code: f"```python\n{code[0]}\n```", text, flags=re.M)


def main() -> None:
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
