"""What is special about S3: how many requests, of which kind, and what is held in memory."""

import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob import storage
from ragjob.config import S3
from ragjob.errors import DataError, DependencyError
from ragjob.storage.s3_client import client
from ragjob.storage.s3_read import TAIL_BYTES
from ragjob.storage.s3_upload import PART_BYTES, Upload, part_bytes
from tests.conftest import parquet
from tests.faults import Fault, Proxy, forget, proxy, refuse, reset
from tests.services import Bucket

MANY = 1001  # one more than a request lists


def only_texts(path: str) -> str | None:
    return None if path.endswith(".txt") else "no text"


@pytest.fixture
def counted(s3: Bucket) -> Iterator[Proxy]:
    """A proxy that storage goes through from now on."""
    with proxy(s3.server.endpoint) as running:
        storage.configure(S3(endpoint_url=running.url, timeout_s=20))
        yield running


def test_a_folder_is_listed_read_and_removed_without_a_request_too_many(s3: Bucket, counted: Proxy) -> None:
    uris = [f"{s3.uri}/many/{number:05d}.txt" for number in range(MANY)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda uri: storage.put(uri, uri.encode()), uris))
    counted.seen.clear()
    entries = storage.list_inputs(f"{s3.uri}/many", only_texts, "corpus.uri").entries
    assert [storage.read_bytes(entry.uri).decode() for entry in entries] == uris
    storage.delete(entry.uri for entry in entries)
    assert s3.keys() == []
    assert counted.counts() == {"GET list": 2, "GET object": MANY, "POST bucket": 2}


def test_a_glob_lists_no_more_than_begins_like_it(s3: Bucket, counted: Proxy) -> None:
    s3.write("many/a1.txt", b"")
    storage.list_inputs(f"{s3.uri}/many/a*.txt", only_texts, "corpus.uri")
    assert [request.target.split("prefix=")[1] for request in counted.seen] == ["many%2Fa&encoding-type=url"]


def test_an_empty_object_that_shows_a_folder_is_no_file(s3: Bucket) -> None:
    s3.write("a/", b"")
    s3.write("a/x.txt", b"")
    assert [storage.list_names(f"{s3.uri}/a"), storage.list_names(f"{s3.uri}/a/")] == [["x.txt"], ["x.txt"]]
    assert [entry.path for entry in storage.list_files(s3.uri)] == ["a/x.txt"]


def test_a_bucket_is_a_folder(s3: Bucket) -> None:
    s3.write("a/x.txt", b"")
    s3.write("y.txt", b"")
    uris = (s3.uri, f"{s3.uri}/", f"{s3.uri}/**/*.txt")
    listings = [storage.list_inputs(uri, only_texts, "corpus.uri").entries for uri in uris]
    assert [[entry.uri for entry in entries] for entries in listings] == [[f"{s3.uri}/a/x.txt", f"{s3.uri}/y.txt"]] * 3


def test_a_small_parquet_file_is_read_with_one_request(s3: Bucket, counted: Proxy) -> None:
    storage.put(f"{s3.uri}/x.parquet", parquet(pa.table({"a": range(1000), "b": range(1000)})))
    counted.seen.clear()
    with storage.open_input(f"{s3.uri}/x.parquet") as file:
        assert pq.ParquetFile(file).read().num_rows == 1000
    assert counted.counts() == {"GET object": 1}


def test_of_a_large_parquet_file_only_the_row_group_asked_for_is_read(s3: Bucket, counted: Proxy) -> None:
    rows = pa.table({"text": [os.urandom(2000).hex() for _ in range(8192)]})
    storage.put(f"{s3.uri}/x.parquet", parquet(rows, 1024))
    counted.seen.clear()
    with storage.open_input(f"{s3.uri}/x.parquet") as file:
        assert pq.ParquetFile(file).read_row_group(0).equals(rows.slice(0, 1024))
    assert counted.counts()["GET object"] <= 4


def test_an_object_that_is_changed_while_it_is_read_is_a_data_error(s3: Bucket) -> None:
    uri = s3.write("x", bytes(3 * TAIL_BYTES))
    with storage.open_input(uri) as file:
        s3.write("x", b"1" * 3 * TAIL_BYTES)
        with pytest.raises(DataError, match=f"^{uri}: was changed while the job was running; leave inputs alone"):
            file.read()


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES])
def test_a_file_is_put_in_as_many_parts_as_it_needs(s3: Bucket, counted: Proxy, size: int) -> None:
    assert storage.publish(f"{s3.uri}/x", lambda file: file.write(bytes(size)))
    assert len(s3.read("x")) == size
    assert counted.counts()["PUT part"] == (0 if size < PART_BYTES else -(-size // PART_BYTES))
    assert counted.counts()["PUT object"] == int(size < PART_BYTES)


def test_parts_grow_so_that_ten_thousand_hold_the_largest_object() -> None:
    sizes = [part_bytes(before) for before in range(10_000)]
    assert sum(sizes) > 5 * 2**40
    assert max(sizes) <= 5 * 2**30


def test_publishing_and_reading_hold_a_part_in_memory_whatever_the_size(s3: Bucket) -> None:
    block, blocks = bytes(2**20), 96

    def write(file: BinaryIO) -> None:
        for _ in range(blocks):
            file.write(block)

    client()  # what it takes once isn't asked about
    tracemalloc.start()
    storage.publish(f"{s3.uri}/x", write)
    with storage.open_input(f"{s3.uri}/x") as file:
        while file.read(len(block)):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * PART_BYTES


READER = """
import json, resource, sys
from collections import Counter
from ragjob import storage
from ragjob.config import S3
from ragjob.storage.s3_client import client
requests = Counter()
def count(event_name, **_):
    requests[event_name.rpartition(".")[2]] += 1
def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
storage.configure(S3(endpoint_url=sys.argv[1]))
client().meta.events.register("before-send.s3", count)
before = peak_mib()
entries = storage.list_inputs(sys.argv[2], lambda path: None, "corpus.uri").entries
size = sum(len(storage.read_bytes(entry.uri)) for entry in entries)
print(json.dumps([len(entries), size, requests, peak_mib() - before]))
"""


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_thousand_objects_take_as_many_requests_and_no_more_memory(s3: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: storage.put(f"{s3.uri}/{at % 100}/{at}.txt", bytes(1000)), range(20_000)))
    run = [sys.executable, "-c", READER, s3.server.endpoint, s3.uri]
    shown = subprocess.run(run, capture_output=True, text=True, check=True)
    object_count, size, requests, grown_mib = json.loads(shown.stdout)
    assert (object_count, size) == (20_000, 20_000_000)
    assert requests == {"ListObjectsV2": 20, "GetObject": 20_000}
    assert grown_mib < 40


UPLOADER = """
import os, sys, time
from ragjob import storage
from ragjob.config import S3
storage.configure(S3(endpoint_url=sys.argv[1]))
storage.publish(sys.argv[2], lambda file: [file.write(bytes(9 * 2**20)), print(flush=True), time.sleep(60)])
"""


def test_what_a_killed_writer_left_is_listed_and_swept(s3: Bucket) -> None:
    uri = f"{s3.uri}/run/answers.parquet"
    command = [sys.executable, "-c", UPLOADER, s3.server.endpoint, uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert [left.uri for left in storage.list_unfinished(s3.uri)] == [uri]
    storage.sweep_unfinished(uri + "2")
    assert s3.uploads() == ["run/answers.parquet"]
    storage.sweep_unfinished(uri)
    assert (s3.uploads(), s3.keys()) == ([], [])


@pytest.mark.parametrize("size", [10, 9 * 2**20])
@pytest.mark.parametrize("times", [1, 2])
def test_a_publish_that_took_effect_though_its_answer_was_lost_is_won(
    s3: Bucket, counted: Proxy, size: int, times: int
) -> None:
    counted.faults = [Fault(reset(), on="PUT .*/x$|POST .*uploadId", times=times)]
    assert storage.publish(f"{s3.uri}/x", lambda file: file.write(bytes(size)))
    assert (s3.keys(), s3.uploads()) == (["x"], [])


def test_a_put_if_absent_that_took_effect_though_its_answer_was_lost_is_won(s3: Bucket, counted: Proxy) -> None:
    counted.faults = [Fault(reset(), on="PUT", times=1)]
    assert storage.put_if_absent(f"{s3.uri}/x", b"ours")
    assert counted.counts() == {"PUT object": 2, "GET object": 1}


def test_a_conflict_with_another_writer_is_tried_again(s3: Bucket, counted: Proxy) -> None:
    conflict = refuse(409, "ConditionalRequestConflict")
    counted.faults = [Fault(conflict, on="PUT .*/x$", times=2), Fault(conflict, on="POST .*uploadId", times=2)]
    assert storage.put_if_absent(f"{s3.uri}/x", b"ours")
    assert storage.publish(f"{s3.uri}/y", lambda file: file.write(bytes(PART_BYTES)))


@pytest.mark.parametrize("on", ["PUT .*probe", "POST .*uploadId"], ids=["PutObject", "CompleteMultipartUpload"])
def test_a_server_that_ignores_the_condition_is_refused(s3: Bucket, counted: Proxy, on: str) -> None:
    counted.faults = [Fault(forget("If-None-Match", s3.server), on=on)]
    message = (
        f"^output.uri: {s3.uri}/out/_probe-.*: the server ignores If-None-Match, .*; use a server that supports it"
    )
    with pytest.raises(DependencyError, match=message):
        storage.check_writable(f"{s3.uri}/out", "output.uri")
    assert (s3.keys(), s3.uploads()) == ([], [])


def test_an_upload_that_cant_be_aborted_is_left_without_a_word(s3: Bucket, counted: Proxy) -> None:
    counted.faults = [Fault(refuse(503, "SlowDown"), on="DELETE")]
    with pytest.raises(ValueError, match=r"^the writer's own$"):
        storage.publish(f"{s3.uri}/x", _fail_in_mid_upload)
    assert counted.counts()["DELETE upload"] == 1
    assert s3.uploads() == ["x"]


def _fail_in_mid_upload(file: BinaryIO) -> None:
    file.write(bytes(PART_BYTES))
    raise ValueError("the writer's own")


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        (
            {"sse": "aws:kms", "kms_key_id": "alias/ours"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/ours",
            },
        ),
    ],
)
def test_whatever_makes_an_object_asks_for_its_encryption(
    s3: Bucket, counted: Proxy, settings: dict[str, str], headers: dict[str, str]
) -> None:
    storage.configure(S3(endpoint_url=counted.url, **settings))
    storage.put(f"{s3.uri}/put", b"")
    storage.put_if_absent(f"{s3.uri}/absent", b"")
    storage.publish(f"{s3.uri}/small", lambda file: file.write(b""))
    storage.publish(f"{s3.uri}/large", lambda file: file.write(bytes(PART_BYTES)))
    makers = [request for request in counted.seen if request.kind in ("PUT object", "POST upload")]
    makers = [request for request in makers if "uploadId" not in request.target]
    assert len(makers) == 4
    assert all(
        headers.items() <= {name.lower(): value for name, value in request.headers.items()}.items()
        for request in makers
    )


@pytest.mark.parametrize(
    ("endpoint", "path_style", "url"),
    [
        ("https://s3.example.org", None, "https://s3.example.org/bucket/key"),
        ("https://s3.example.org", True, "https://s3.example.org/bucket/key"),
        ("https://s3.example.org", False, "https://bucket.s3.example.org/key"),
        (None, None, "https://bucket.s3.amazonaws.com/key"),
        (None, True, "https://s3.amazonaws.com/bucket/key"),
    ],
)
def test_the_bucket_stands_in_the_path_where_that_is_asked_for(
    bucket: Bucket, endpoint: str | None, path_style: bool | None, url: str
) -> None:
    storage.configure(S3(endpoint_url=endpoint, path_style=path_style))
    signed = client().generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    storage.configure(S3())
    assert signed.split("?")[0] == url


def test_threads_share_one_client(s3: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: id(client()), range(8)))) == 1


def test_local_files_are_read_without_boto3() -> None:
    code = "import sys; from ragjob import storage; storage.list_names('.'); print('boto3' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"


def test_an_upload_is_a_file_to_write_to(s3: Bucket) -> None:
    sink = Upload(f"{s3.uri}/x.parquet")
    pq.write_table(pa.table({"a": [1]}), sink)
    assert sink.finish()
    assert pq.read_table(io.BytesIO(s3.read("x.parquet"))).to_pydict() == {"a": [1]}
