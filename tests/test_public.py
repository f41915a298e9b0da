"""What programs use: all that `ragjob` exports is documented and typed, and costs nothing before it is used."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, get_args, get_type_hints

import pytest

import ragjob

FUNCTIONS = [name for name in ragjob.__all__ if isinstance(getattr(ragjob, name), FunctionType)]
RECORDS = [name for name in ragjob.__all__ if is_dataclass(getattr(ragjob, name))]


def named(thing: object, section: str) -> list[str]:
    """The names in a section of a docstring in Google's style."""
    (body,) = re.findall(rf"^{section}:\n((?:    .*\n?)*)", inspect.getdoc(thing) or "", re.M)
    return re.findall(r"^    (\w+): \S", body, re.M)


def holds_any(hint: object) -> bool:
    return hint is Any or any(holds_any(part) for part in get_args(hint))


@pytest.mark.parametrize("name", ragjob.__all__)
def test_every_exported_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(ragjob, name).__name__ == name
    assert inspect.getdoc(getattr(ragjob, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_function_is_documented(name: str) -> None:
    function = getattr(ragjob, name)
    assert named(function, "Args") == list(inspect.signature(function).parameters)
    assert "\nReturns:\n    " in str(inspect.getdoc(function))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_raises_is_exported(name: str) -> None:
    assert set(named(getattr(ragjob, name), "Raises")) <= set(ragjob.__all__)


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_is_documented(name: str) -> None:
    record = getattr(ragjob, name)
    assert named(record, "Attributes") == [field.name for field in fields(record)]


@pytest.mark.parametrize("name", [*FUNCTIONS, *RECORDS])
def test_nothing_exported_is_typed_any(name: str) -> None:
    assert [hint for hint in get_type_hints(getattr(ragjob, name)).values() if holds_any(hint)] == []


def test_what_isnt_exported_isnt_there() -> None:
    with pytest.raises(AttributeError, match=r"^module 'ragjob' has no attribute 'silent'$"):
        _ = ragjob.silent


def test_type_checkers_read_its_types() -> None:
    assert (Path(ragjob.__file__).parent / "py.typed").is_file()


def test_importing_it_loads_neither_pydantic_nor_pyarrow_nor_ray() -> None:
    code = "import sys, ragjob, ragjob.errors; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"pydantic", "pyarrow", "ray"} & set(loaded) == set()
