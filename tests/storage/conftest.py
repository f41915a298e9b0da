"""Places to keep files in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from job import storage
from job.config import S3
from tests.services import Bucket


@pytest.fixture
def s3(bucket: Bucket) -> Iterator[Bucket]:
    """A fresh bucket, which storage reaches."""
    storage.configure(S3(endpoint_url=bucket.server.endpoint, region=bucket.server.region, timeout_s=20))
    yield bucket
    storage.configure(S3())


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Uri of a folder that is empty."""
    return str(tmp_path) if request.param == "disk" else f"{request.getfixturevalue('s3').uri}/a/folder"
