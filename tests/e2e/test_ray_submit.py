"""`ray job submit` to a Ray cluster that is there already, stopped in the middle."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Namespace, standing, wait_until
from tests.e2e.ray_job import ENTRYPOINT, RayJob, reached
from tests.e2e.test_kill import PROMPTS, check_answers, many, staged  # noqa: F401 - a fixture
from tests.services import Bucket

pytestmark = pytest.mark.soak


@pytest.fixture
def ray(namespace: Namespace, many: dict[str, Any]) -> Iterator[RayJob]:  # noqa: F811
    with reached(namespace, standing(namespace, many)) as command:
        yield command


def test_a_stopped_job_goes_on_when_it_is_submitted_again(ray: RayJob, bucket: Bucket) -> None:
    ray("submit", "--no-wait", "--submission-id", "first", "--", *ENTRYPOINT)
    wait_until(lambda: len(staged(bucket)) >= 3, 400)
    assert "was stopped" in ray("stop", "first").stdout
    kept = len(staged(bucket))

    again = ray("submit", "--submission-id", "second", "--", *ENTRYPOINT)
    assert again.returncode == 0, again.stdout
    assert kept >= 3
    assert f"{PROMPTS} prompts, 0 errors" in again.stdout
    assert "kept from an earlier attempt" in again.stdout
    check_answers(bucket)
