"""Places to keep files in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ragjob import storage
from ragjob.config import S3
from tests.services import Bucket, s3_choice


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


@pytest.fixture
def real_server(request: pytest.FixtureRequest) -> None:
    """Skip what moto's server can't do: check signatures and regions, date uploads, refuse parts of aborted ones."""
    on_disk = "place" in request.fixturenames and not request.getfixturevalue("place").startswith("s3://")
    if s3_choice() == "moto" and not on_disk:
        pytest.skip("needs a real S3 server: put versitygw on PATH")
