import socket
import time
from collections.abc import Iterator

import pytest

from ragjob.errors import DependencyError
from ragjob.runtime import reach
from ragjob.runtime.reach import require_answer
from tests.services import free_port


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of what takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize("kind", ["silent", "closed"])
def test_an_address_where_no_ray_answers_is_given_up_and_said_meanwhile(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = request.getfixturevalue(kind)
    monkeypatch.setattr(reach, "SOON_S", 0.1)
    monkeypatch.setattr(reach, "ANSWER_S", 1.0)
    with pytest.raises(DependencyError, match=f"^Ray: no cluster answers at RAY_ADDRESS={address} .* within 1 s"):
        require_answer(address)
    assert [(record.message, record.RAY_ADDRESS) for record in caplog.records] == [("waiting for Ray", address)]


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["silent", "closed"])
def test_an_address_where_no_ray_answers_is_given_up_within_a_minute(kind: str, request: pytest.FixtureRequest) -> None:
    address, start = request.getfixturevalue(kind), time.monotonic()
    with pytest.raises(DependencyError, match=f"^Ray: no cluster answers at RAY_ADDRESS={address} "):
        require_answer(address)
    assert time.monotonic() - start < 60


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(DependencyError, match=r"^Ray: no cluster answers at RAY_ADDRESS=nowhere "):
        require_answer("nowhere")


def test_a_ray_that_answers_is_waited_for_in_silence(shared_ray: str, caplog: pytest.LogCaptureFixture) -> None:
    require_answer(shared_ray)
    assert caplog.records == []
