"""The proxy passes requests on as they are, harms those that it is told to, and counts them all."""

import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow.fs
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

from tests.faults import Fault, Hold, Proxy, cut, forget, proxy, refuse, reset, stall
from tests.services import Bucket

BODY = bytes(range(256)) * 1024


@pytest.fixture
def faulty(bucket: Bucket) -> Iterator[Proxy]:
    """A proxy in front of the bucket's server that harms nothing yet."""
    bucket.write("key", BODY)
    with proxy(bucket.server.endpoint) as running:
        yield running


@pytest.fixture
def client(bucket: Bucket, faulty: Proxy) -> Iterator[Any]:
    """A client that goes through the proxy and tries nothing twice."""
    config = Config(retries={"max_attempts": 0}, read_timeout=1)
    client = replace(bucket.server, endpoint=faulty.url).client(config)
    yield client
    client.close()


def read(client: Any, bucket: Bucket) -> bytes:
    body: bytes = client.get_object(Bucket=bucket.name, Key="key")["Body"].read()
    return body


def test_a_signed_request_goes_through_unharmed(bucket: Bucket, client: Any) -> None:
    client.put_object(Bucket=bucket.name, Key="other key", Body=BODY)
    assert bucket.read("other key") == read(client, bucket) == BODY


def test_a_condition_and_a_whole_upload_go_through(bucket: Bucket, client: Any) -> None:
    named = {"Bucket": bucket.name, "Key": "large"}
    upload = client.create_multipart_upload(**named)["UploadId"]
    part = client.upload_part(**named, UploadId=upload, PartNumber=1, Body=BODY)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**named, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(**named, Body=b"", IfNoneMatch="*")
    assert bucket.read("large") == BODY


def test_arrows_own_client_goes_through(bucket: Bucket, faulty: Proxy) -> None:
    keys = {"access_key": bucket.server.access_key, "secret_key": bucket.server.secret_key}
    host = faulty.url.removeprefix("http://")
    arrow = pyarrow.fs.S3FileSystem(endpoint_override=host, scheme="http", region=bucket.server.region, **keys)
    with arrow.open_output_stream(f"{bucket.name}/streamed") as sink:
        sink.write(BODY)
    with arrow.open_input_file(f"{bucket.name}/streamed") as file:
        assert file.read_at(256, 1024) == BODY[1024:1280]


def test_each_third_request_is_refused(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(refuse(503, "SlowDown"), every=3)]
    assert [read(client, bucket), read(client, bucket)] == [BODY, BODY]
    with pytest.raises(ClientError, match="SlowDown"):
        read(client, bucket)
    assert read(client, bucket) == BODY


def test_only_requests_that_a_fault_is_for_are_harmed_and_so_many_times(
    bucket: Bucket, faulty: Proxy, client: Any
) -> None:
    faulty.faults = [Fault(refuse(403, "AccessDenied"), on="^PUT .*/key", times=1)]
    assert read(client, bucket) == BODY
    with pytest.raises(ClientError, match="AccessDenied"):
        client.put_object(Bucket=bucket.name, Key="key", Body=b"")
    client.put_object(Bucket=bucket.name, Key="key", Body=b"2")
    assert bucket.read("key") == b"2"


def test_a_request_that_two_faults_are_for_is_harmed_by_the_first(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(refuse(500, "InternalError"), every=2), Fault(refuse(503, "SlowDown"))]
    with pytest.raises(ClientError, match="SlowDown"):
        read(client, bucket)
    with pytest.raises(ClientError, match="InternalError"):
        read(client, bucket)


def test_a_refusal_is_told_of_an_answer_without_a_body_too(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(refuse(503, "SlowDown"))]
    with pytest.raises(ClientError, match="503"):
        client.head_object(Bucket=bucket.name, Key="key")


def test_a_put_that_is_reset_has_happened(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(reset(), on="^PUT")]
    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket=bucket.name, Key="key", Body=b"2")
    assert bucket.read("key") == b"2"


def test_an_answer_is_reset_half_way(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(reset(after=1000))]
    body = client.get_object(Bucket=bucket.name, Key="key")["Body"]
    with pytest.raises(ResponseStreamingError):
        body.read()


def test_a_body_is_cut_short(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(cut)]
    with pytest.raises(ResponseStreamingError):
        read(client, bucket)


def test_a_stalled_request_is_never_answered(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(stall)]
    with pytest.raises(ReadTimeoutError):
        read(client, bucket)


def test_a_request_is_held_until_it_is_released(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    hold = Hold()
    faulty.faults = [Fault(hold, on="^PUT")]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.put_object, Bucket=bucket.name, Key="key", Body=b"2")
        assert hold.arrived.wait(10)
        assert bucket.read("key") == BODY
        hold.released.set()
        asked.result()
    assert bucket.read("key") == b"2"


def test_a_forgotten_condition_isnt_kept(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(forget("If-None-Match", bucket.server))]
    client.put_object(Bucket=bucket.name, Key="key", Body=b"2", IfNoneMatch="*")
    assert bucket.read("key") == b"2"


def test_requests_are_counted_by_kind(bucket: Bucket, faulty: Proxy, client: Any) -> None:
    faulty.faults = [Fault(refuse(503, "SlowDown"), on="^HEAD")]
    with pytest.raises(ClientError):
        client.head_object(Bucket=bucket.name, Key="key")
    read(client, bucket)
    client.list_objects_v2(Bucket=bucket.name)
    client.create_multipart_upload(Bucket=bucket.name, Key="key")
    assert faulty.counts() == {"HEAD object": 1, "GET object": 1, "GET list": 1, "POST upload": 1}


def test_a_server_that_is_gone_is_a_reset(faulty: Proxy) -> None:
    with proxy("http://127.0.0.1:9") as before_nothing, pytest.raises(OSError, match=r"reset|closed"):
        urllib.request.urlopen(before_nothing.url, timeout=5)
