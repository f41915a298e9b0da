"""The S3 server that the tests stand on keeps the promises that publishing needs."""

import pytest
from botocore.exceptions import ClientError

from tests.services import Bucket


def test_what_is_put_is_listed_and_read(bucket: Bucket) -> None:
    assert bucket.write("a/b", b"1") == f"s3://{bucket.name}/a/b"
    assert (bucket.keys(), bucket.keys("b"), bucket.read("a/b")) == (["a/b"], [], b"1")


def test_an_object_is_put_once_where_none_may_be_there(bucket: Bucket) -> None:
    bucket.write("key", b"first")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        bucket.server.client().put_object(Bucket=bucket.name, Key="key", Body=b"second", IfNoneMatch="*")
    assert bucket.read("key") == b"first"


def test_an_upload_that_isnt_completed_is_no_object(bucket: Bucket) -> None:
    bucket.server.client().create_multipart_upload(Bucket=bucket.name, Key="key")
    assert (bucket.keys(), bucket.uploads()) == ([], ["key"])
