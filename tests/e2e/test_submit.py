"""`ragjob submit` of a job that can't succeed: it ends with the exit code and the one line that fit."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Namespace, submit
from tests.e2e.conftest import Places

# What keeps a job from starting, as values, and what is said then. A quota in the namespace does, too.
FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"image": {"repository": "localhost/absent", "tag": "x"}}, "image localhost/absent:x can't be pulled"),
    "secret": ({"secrets": ["absent"]}, 'secret "absent" not found'),
    "gpus": (
        {
            "workers": [{"name": "gpu", "min": 1, "max": 1, "cpus": 2, "gpus": 99, "memory": "6Gi"}],
            "config": {"generate": {"pool": {"num_gpus": 1}}},
        },
        "no node has a free GPU",
    ),
    "quota": ({}, "exceeded quota"),
}


@pytest.mark.parametrize(
    ("section", "change", "code", "says"),
    [
        ("output", {"uri": "s3://no-such-bucket/answers"}, 3, "no-such-bucket"),
        pytest.param("embed", {"model": "/no/model"}, 4, "embed.model: /no/model", marks=pytest.mark.soak),
    ],
    ids=["bucket", "model"],
)
def test_submit_ends_with_the_jobs_own_exit_code_and_line(
    section: str,
    change: dict[str, str],
    code: int,
    says: str,
    namespace: Namespace,
    values: dict[str, Any],
    tmp_path: Path,
) -> None:
    values["config"][section] = change
    submitted = submit(namespace, values, tmp_path)
    _, err = submitted.communicate(timeout=400)
    assert (submitted.returncode, err.count("\n")) == (code, 1), err
    assert says in err
    created = {event["involvedObject"]["name"] for event in namespace.get("events")}
    assert any("-head-" in name for name in created)
    assert [name for name in created if "-worker-" in name] == []


def changed(values: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`values` with the change, sections of `config` beside those that are there."""
    return values | change | {"config": values["config"] | change.get("config", {})}


@pytest.fixture(scope="module")
def refused(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """All `FAILURES`, under way at once, each in a namespace of its own."""
    with ExitStack() as stack:
        made = {name: stack.enter_context(places()) for name in FAILURES}
        made["quota"].namespace.run("kubectl", "create", "quota", "none", "--hard=pods=0")
        yield {
            name: submit(place.namespace, changed(place.values, FAILURES[name][0]), tmp_path_factory.mktemp(name))
            for name, place in made.items()
        }


@pytest.mark.parametrize("failure", FAILURES)
def test_submit_says_in_one_line_what_keeps_a_job_from_starting(
    failure: str, refused: dict[str, "subprocess.Popen[str]"]
) -> None:
    _, err = refused[failure].communicate(timeout=200)
    assert (refused[failure].returncode, err.count("\n")) == (3, 1), err
    assert FAILURES[failure][1] in err
