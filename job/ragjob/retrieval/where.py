"""Filters by metadata: what `retrieve.where` may hold, and when one of its values equals one of a chunk.

Values are compared by their keys, which are texts: a value that is looked for and one that a chunk has share a key if,
and only if, they are equal.

>>> set(looked_for(2024)) & set(keys_of(2024.0)), set(looked_for(2024)) & set(keys_of("2024"))
({'n2024'}, {'N2024'})
>>> set(looked_for("007")) & set(keys_of("7")), set(looked_for("2024-01-01")) & set(keys_of("2024-01-01T00:00:00"))
(set(), {'d2024-01-01T00:00:00+00:00'})
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeGuard

from pydantic import BeforeValidator

from ragjob.settings import FromText

NULL = "0"  # the key of a chunk without a value
_COLUMN = re.compile(r"\{([^{}]+)\}")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")  # as JSON writes it
_NUMBER_CHARS = 40  # a longer text is none
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")

Value: TypeAlias = bool | int | float | str | None


class Column(NamedTuple):
    """The column of the prompts that a value is taken from."""

    name: str


@dataclass(frozen=True)
class Condition:
    """What a chunk must have: for each name of metadata, a value with one of these keys."""

    keys: tuple[tuple[str, tuple[str, ...]], ...]


def _checked(given: object) -> object:
    """What the setting is given, dates as ISO 8601. Raises `ValueError` for what nothing is compared with."""
    if isinstance(given, Mapping):
        return {str(name): _checked_values(str(name), values) for name, values in given.items()}
    return given  # the field's type refuses it


def _checked_values(name: str, given: object) -> object:
    values = given if isinstance(given, list) else [given]
    if not values:
        raise ValueError(f"{name} is an empty list, which nothing matches: name a value, or leave {name} out")
    values = [value.isoformat() if isinstance(value, date) else value for value in values]
    for value in values:
        if not _is_value(value):
            raise ValueError(f"{name} must be a text, a number, a date, true, false or null, or a list of these")
        _meant(value)
    return values if isinstance(given, list) else values[0]


def _is_value(value: object) -> TypeGuard[Value]:
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


Where = Annotated[dict[str, Value | list[Value]], BeforeValidator(_checked), FromText]


def _meant(value: Value) -> Value | Column:
    """A value of the setting, or the column that it names; `{{` and `}}` are braces."""
    if not isinstance(value, str):
        return value
    if column := _COLUMN.fullmatch(value):
        return Column(column[1])
    if re.search(r"[{}]", value.replace("{{", "").replace("}}", "")):
        raise ValueError(
            f"{value!r} is neither a column of the prompts, such as {{tenant}}, nor text without braces; "
            "write {{ and }} for braces"
        )
    return value.replace("{{", "{").replace("}}", "}")


def _alternatives(given: Value | list[Value]) -> list[Value | Column]:
    return [_meant(value) for value in _listed(given)]


def columns_of(where: Where) -> list[str]:
    """The columns of the prompts that values are taken from."""
    meant = [value for given in where.values() for value in _alternatives(given)]
    return list(dict.fromkeys(value.name for value in meant if isinstance(value, Column)))


def described(where: Where) -> str:
    """A filter in one line."""
    return ", ".join(f"{name} is {' or '.join(map(_shown, _listed(given)))}" for name, given in where.items())


def condition_of(where: Where, values: Mapping[str, Any]) -> Condition:
    """The condition for a prompt whose columns have `values`, none of which `is_missing`."""
    return Condition(tuple((name, tuple(dict.fromkeys(_asked(given, values)))) for name, given in where.items()))


def is_missing(value: Any) -> bool:
    """Return whether there is no value: null, NaN, blank text, or a list of only these."""
    if isinstance(value, list):
        return all(map(is_missing, value))
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def keys_of(value: Any) -> list[str]:
    """The keys of what a chunk has: a value as JSON has it. A list has those of its elements, an object none."""
    if is_missing(value):
        return [NULL]
    if isinstance(value, list):
        return list(dict.fromkeys(key for one in value if not is_missing(one) for key in keys_of(one)))
    if not isinstance(value, str):
        return _keys_of_plain(value)
    if instant := _instant(value):
        return [instant]
    return [f"t{value}", *(key.upper() for key in _keys_of_plain(_read(value)))]


def looked_for(value: Any) -> list[str]:
    """The keys of `value`: a chunk's value with one of them equals it, or is in it if it is a list."""
    if is_missing(value):
        return [NULL]
    if isinstance(value, list):
        return [key for one in value if not is_missing(one) for key in looked_for(one)]
    if not isinstance(value, str):
        return [key for plain in _keys_of_plain(value) for key in (plain, plain.upper())]
    if instant := _instant(value):
        return [instant]
    return [f"t{value}", *_keys_of_plain(_read(value))]


def _asked(given: Value | list[Value], values: Mapping[str, Any]) -> Iterator[str]:
    for value in _alternatives(given):
        yield from looked_for(values[value.name] if isinstance(value, Column) else value)


def _keys_of_plain(value: object) -> list[str]:
    """The key of a number or a boolean, if it is one; in upper case it is that of a text which reads like it."""
    if isinstance(value, bool):
        return [f"b{int(value)}"]
    if isinstance(value, float):
        value = int(value) if value.is_integer() else value
    return [f"n{value!r}"] if isinstance(value, int | float) else []


def _read(text: str) -> int | float | bool | None:
    """The number or boolean that a text reads like."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if len(text) > _NUMBER_CHARS or not _NUMBER.fullmatch(text):
        return None
    number: int | float = json.loads(text)
    return number if math.isfinite(number) else None


def _instant(text: str) -> str | None:
    """The key of a date, or of a date and time, without a time zone in UTC; None for other texts."""
    if not _DATE.fullmatch(text):
        return None
    try:
        instant = datetime.fromisoformat(text)
        return f"d{(instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC).isoformat()}"
    except (ValueError, OverflowError):
        return None


def _listed(given: Value | list[Value]) -> list[Value]:
    return given if isinstance(given, list) else [given]


def _shown(value: Value) -> str:
    return value if isinstance(value, str) and _COLUMN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
