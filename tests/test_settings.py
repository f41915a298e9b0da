import os

import pytest

from ragjob.settings import reached_directly, strip_variables

NEAR = [
    "http://127.0.0.1:8000",
    "http://127.8.9.1:8000",
    "http://[::1]:8000",
    "http://localhost/v1",
    "http://api.localhost/v1",
    "http://me:secret@localhost:8000",
    "http://answers-chroma:8000",
    "http://chroma.jobs.svc:8000",
    "https://chroma.jobs.svc.cluster.local.",
]
FAR = [
    "https://api.example.com/v1",
    "http://10.0.0.7:8000",
    "http://[2001:db8::1]:8000",
    "http://localhost.example.com",
]


@pytest.mark.parametrize("url", NEAR)
def test_this_machine_and_the_clusters_services_are_reached_past_proxies(url: str) -> None:
    assert reached_directly(url)


@pytest.mark.parametrize("url", FAR)
def test_all_else_is_reached_through_proxies_unless_no_proxy_has_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not reached_directly(url)
    monkeypatch.setenv("NO_PROXY", "api.example.com,10.0.0.7,2001:db8::1,.example.com")
    assert reached_directly(url)


def test_only_the_ends_of_the_variables_that_are_asked_for_are_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", " a key\r\n")
    monkeypatch.setenv("A_USERS_OWN", " kept\n")
    strip_variables("AWS_")
    assert (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["A_USERS_OWN"]) == ("a key", " kept\n")
