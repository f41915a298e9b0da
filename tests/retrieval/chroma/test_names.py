"""The names of collections."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ragjob.errors import DependencyError
from ragjob.ledger.settings import Index
from ragjob.retrieval.chroma.collection import connect, drop
from ragjob.retrieval.chroma.expected import Target, collection_name

pytestmark = pytest.mark.services


def fits_the_settings(stem: str) -> bool:
    try:
        return bool(Index(collection=stem))
    except ValidationError:
        return False


def fits_chroma(stem: str, url: str) -> bool:
    target, name = Target(url, 20), collection_name(stem, "0a1b")
    try:
        connect(target, 0).create_collection(name)
    except DependencyError:  # answered 400
        return False
    drop(target, name)
    return True


@example("a..b")
@example("a.-.b_")
@example("a.")
@example("x" * 64)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("aZ0._-/ \n", min_size=1, max_size=6))
def test_the_settings_take_the_stems_that_chroma_takes(shared_chroma: str, stem: str) -> None:
    assert fits_the_settings(stem) == fits_chroma(stem, shared_chroma)
