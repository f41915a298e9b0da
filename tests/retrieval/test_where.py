"""When a value that a filter names equals one of a chunk, and what the setting may hold."""

from typing import Any

import pytest

from ragjob.config import load_settings
from ragjob.errors import SettingsError
from ragjob.retrieval.where import Where, columns_of, condition_of, described, keys_of, looked_for


def where_of(text: str) -> Where:
    return load_settings(None, [f"retrieve.where={text}"]).retrieve.where


def equal(value: Any, stored: Any) -> bool:
    return not set(looked_for(value)).isdisjoint(keys_of(stored))


EQUAL = [
    ("acme", "acme"),
    (1, 1.0),
    (2**53 + 1, 2**53 + 1),
    (2024, "2024"),
    ("2024", 2024),
    (2.5, "2.50"),
    ("2.50", 2.5),
    (-0.0, 0),
    (True, True),
    (True, "True"),
    ("false", False),
    ("2024-01-01", "2024-01-01T00:00:00"),
    ("2024-01-01T00:00", "2024-01-01"),
    ("2024-01-01", "2024-01-01T00:00:00+00:00"),
    ("2024-01-01T12:00:00Z", "2024-01-01T14:00:00+02:00"),
    (None, None),
    (None, ""),
    (None, float("nan")),
    (None, []),
    ("b", ["a", "b"]),
    (["a", "b"], "b"),
    ([None, "b"], "b"),
    (3, ["a", "3"]),
]
UNEQUAL = [
    ("acme", "Acme"),
    ("acme", "acme "),
    ("7", "007"),
    (7, "007"),
    ("1", "1.0"),
    (1, True),
    (True, 1),
    (True, "1"),
    ("1", True),
    (0, None),
    (False, None),
    (2**53, 2**53 + 1),
    (10, "1_0"),
    (1e400, "1e999"),
    ("2024-01-01", "20240101"),
    ("2024-01-01", "2024-01-01T00:00:01"),
    ("2024-01-01T00:00:00", "2024-01-01T00:00:00+02:00"),
    ("2024-02-30", "2024-03-01"),
    (None, "null"),
    (None, [None, "a"]),
    (None, {"a": 1}),
    ("a", {"a": 1}),
    (["a"], "b"),
]


@pytest.mark.parametrize(("value", "stored"), EQUAL)
def test_values_are_equal_as_what_they_are(value: Any, stored: Any) -> None:
    assert equal(value, stored)


@pytest.mark.parametrize(("value", "stored"), UNEQUAL)
def test_other_values_are_not(value: Any, stored: Any) -> None:
    assert not equal(value, stored)


def test_values_are_a_prompts_own_or_the_settings() -> None:
    where = where_of('{"tenant": ["shared", "{customer}"], "year": 2024, "{odd}": "{{x}}", "of": "{customer}"}')
    assert columns_of(where) == ["customer"]
    assert condition_of(where, {"customer": ["acme", None]}).keys == (
        ("tenant", ("tshared", "tacme")),
        ("year", ("n2024", "N2024")),
        ("{odd}", ("t{x}",)),
        ("of", ("tacme",)),
    )


def test_a_filter_reads_as_a_sentence() -> None:
    where = where_of('{tenant: "{customer}", year: [2024, null], since: 2024-01-01}')
    assert described(where) == 'tenant is {customer}, year is 2024 or null, since is "2024-01-01"'


def test_a_filter_is_a_mapping_in_yaml_or_json(tmp_path: Any) -> None:
    (tmp_path / "job.yaml").write_text("retrieve:\n  where:\n    since: 2024-01-01\n    open: [true, 1, 1.0, '1']\n")
    where = load_settings(tmp_path / "job.yaml", []).retrieve.where
    assert repr(where) == "{'since': '2024-01-01', 'open': [True, 1, 1.0, '1']}"
    assert repr(where_of('{"since": "2024-01-01", "open": [true, 1, 1.0, "1"]}')) == repr(where)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"tenant": []}', "tenant is an empty list"),
        ('{"tenant": {"not": "acme"}}', "tenant must be a text, a number, a date"),
        ('{"tenant": .inf}', "tenant must be a text, a number, a date"),
        ('{"tenant": "acme-{tenant}"}', "'acme-{tenant}' is neither a column of the prompts"),
        ('{"tenant": "{}"}', "'{}' is neither a column of the prompts"),
        ('{"tenant": a, "tenant": b}', "tenant is given twice"),
        ("tenant", "input should be a valid dictionary"),
    ],
)
def test_what_nothing_can_be_compared_with_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^retrieve.where: {message}"):
        where_of(text)
