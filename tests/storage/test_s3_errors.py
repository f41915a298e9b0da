"""What is tried again, for how long, and what is said when it doesn't help: one line without a secret."""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ragjob import storage
from ragjob.config import S3
from ragjob.errors import DataError, DependencyError, RagjobError
from tests.conftest import parquet
from tests.faults import Answer, Fault, Harm, Proxy, cut, proxy, refuse, reset, stall
from tests.services import Bucket

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the service account's role"
LARGE = bytes(range(256)) * 20_000


@pytest.fixture
def faulty(s3: Bucket) -> Iterator[Proxy]:
    """A proxy that storage goes through from now on, with 12 seconds for each operation."""
    with proxy(s3.server.endpoint) as running:
        storage.configure(S3(endpoint_url=running.url, region=s3.server.region, timeout_s=12))
        yield running


def what(use: Callable[[], object]) -> RagjobError:
    """The error that `use` raises."""
    with pytest.raises(RagjobError) as caught:
        use()
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None  # it could hold what the server answered
    assert caught.value.__context__ is None
    return caught.value


USES: dict[str, Callable[[str], object]] = {
    "list": lambda uri: storage.list_inputs(uri + "/folder", lambda path: None, "corpus.uri"),
    "names": lambda uri: storage.list_names(uri + "/folder"),
    "exists": lambda uri: storage.exists(uri + "/folder/x.txt"),
    "read": lambda uri: storage.read_bytes(uri + "/folder/x.txt"),
    "put": lambda uri: storage.put(uri + "/y", b"content"),
    "put if absent": lambda uri: storage.put_if_absent(uri + "/y", b"content"),
    "publish": lambda uri: storage.publish(uri + "/y", lambda file: file.write(LARGE * 2)),
    "delete": lambda uri: storage.delete([uri + "/x"]),
    "unfinished": lambda uri: storage.list_unfinished(uri),
    "check": lambda uri: storage.check_writable(uri + "/out", "output.uri"),
}
PASSING = {
    "500": refuse(500, "InternalError"),
    "502": refuse(502, ""),
    "503": refuse(503, "SlowDown"),
    "429": refuse(429, "TooManyRequests"),
    "request timeout": refuse(400, "RequestTimeout"),
    "reset": reset(),
    "stall": stall,
    "cut": cut,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_whatever_was_asked_is_tried_again(s3: Bucket, faulty: Proxy, use: Callable[[str], object]) -> None:
    s3.write("folder/x.txt", LARGE)
    faulty.faults = [Fault(refuse(503, "SlowDown"), times=1)]
    assert use(s3.uri) is not False
    assert faulty.faults[0].done == 1


@pytest.mark.parametrize("use", ["read", "put if absent"])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(s3: Bucket, faulty: Proxy, fault: Harm, use: str) -> None:
    s3.write("folder/x.txt", LARGE)
    faulty.faults = [Fault(fault, times=1)]
    assert USES[use](s3.uri) is not False
    assert faulty.faults[0].done == 1


def test_every_other_request_may_fail(s3: Bucket, faulty: Proxy) -> None:
    faulty.faults = [Fault(refuse(503, "SlowDown"), every=2), Fault(cut, every=3)]
    assert storage.publish(f"{s3.uri}/x", lambda file: file.write(LARGE * 4))
    assert storage.read_bytes(f"{s3.uri}/x") == LARGE * 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refuse(503, "SlowDown"), r"GetObject failed in each of \d+ attempts \(SlowDown\); try later, or raise"),
        (reset(), r"\w+Error in each of \d+ attempts; check s3.endpoint_url and the network, or raise"),
        (stall, r"ReadTimeoutError in each of \d+ attempts; check s3.endpoint_url and the network, or raise"),
    ],
    ids=["refused", "reset", "stalled"],
)
def test_what_never_passes_ends_within_its_time(s3: Bucket, faulty: Proxy, fault: Harm, reason: str) -> None:
    faulty.faults = [Fault(fault)]
    start = time.monotonic()
    error = what(lambda: storage.read_bytes(f"{s3.uri}/x"))
    assert time.monotonic() - start < 12.5
    assert len(faulty.seen) > 1
    assert isinstance(error, DependencyError)
    assert re.fullmatch(rf"{s3.uri}/x: {reason} s3.timeout_s \(12\)", str(error))


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "AccessDenied", "access is denied (AccessDenied); allow these credentials s3:GetObject on bucket {}"),
        (403, "", "access is denied (403); allow these credentials s3:GetObject on bucket {}"),
        (403, "InvalidAccessKeyId", f"the credentials are refused (InvalidAccessKeyId); check them: set {CREDENTIALS}"),
        (
            403,
            "SignatureDoesNotMatch",
            f"the credentials are refused (SignatureDoesNotMatch); check them: set {CREDENTIALS}",
        ),
        (400, "ExpiredToken", "the credentials have expired (ExpiredToken); renew them"),
        (
            403,
            "RequestTimeTooSkewed",
            "this machine's clock and the server's differ (RequestTimeTooSkewed); set the clock",
        ),
        (
            301,
            "PermanentRedirect",
            "bucket {} is in another region (PermanentRedirect); set s3.region to it, or leave it out",
        ),
        (
            400,
            "AuthorizationHeaderMalformed",
            "bucket {} is in another region (AuthorizationHeaderMalformed); set s3.region to it, or leave it out",
        ),
        (404, "NoSuchBucket", "there is no bucket {} (NoSuchBucket); create it, or correct the address"),
        (
            400,
            "KMS.NotFoundException",
            "the KMS key can't be used (KMS.NotFoundException); check s3.kms_key_id and the key's policy",
        ),
        (507, "XMinioStorageFull", "no space is left on the server (XMinioStorageFull); free some, or raise the quota"),
        (501, "NotImplemented", "the server doesn't support s3:GetObject (NotImplemented); use one that does"),
        (418, "Teapot", "GetObject was answered 418 (Teapot); check the s3 settings and the server's log"),
    ],
)
def test_a_refusal_is_told_at_once_with_its_remedy(
    s3: Bucket, faulty: Proxy, status: int, code: str, told: str
) -> None:
    faulty.faults = [Fault(refuse(status, code))]
    error = what(lambda: storage.exists(f"{s3.uri}/x"))
    assert isinstance(error, DependencyError)
    assert str(error) == f"{s3.uri}/x: {told.format(s3.name)}"
    assert len(faulty.seen) == 1


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_refusal_is_a_dependency_error_whatever_was_asked(
    s3: Bucket, faulty: Proxy, use: Callable[[str], object]
) -> None:
    s3.write("folder/x.txt", b"")
    faulty.faults = [Fault(refuse(403, "AccessDenied"), on="^(?!HEAD)")]
    with pytest.raises(
        DependencyError, match=rf"{s3.uri}.*: access is denied \(AccessDenied\); allow these .* s3:\w+ on"
    ):
        use(s3.uri)


@pytest.mark.parametrize(
    ("on", "action"),
    [
        ("^PUT .*probe", "s3:PutObject"),
        ("^POST .*uploads", "s3:PutObject"),
        ("^GET .*uploads", "s3:ListBucketMultipartUploads"),
        ("^POST .*delete", "s3:DeleteObject"),
    ],
)
def test_a_right_that_is_missing_is_found_before_the_run(s3: Bucket, faulty: Proxy, on: str, action: str) -> None:
    faulty.faults = [Fault(refuse(403, "AccessDenied"), on=on)]
    with pytest.raises(
        DependencyError, match=f"^output.uri: .*: access is denied .* allow these credentials {action} on"
    ):
        storage.check_writable(f"{s3.uri}/out", "output.uri")


def test_an_object_that_cant_be_removed_is_told(s3: Bucket, faulty: Proxy) -> None:
    faulty.faults = [Fault(one_refused("AccessDenied"), on="POST")]
    with pytest.raises(
        DependencyError, match=r"access is denied \(AccessDenied\); allow these credentials s3:DeleteObject"
    ):
        storage.delete([f"{s3.uri}/x"])


def test_an_object_that_cant_be_removed_now_is_removed_later(s3: Bucket, faulty: Proxy) -> None:
    s3.write("x", b"")
    faulty.faults = [Fault(one_refused("InternalError"), on="POST", times=1)]
    storage.delete([f"{s3.uri}/x"])
    assert s3.keys() == []


def one_refused(code: str) -> Harm:
    """A fault: the request to remove objects succeeds, but for one of them."""
    return answer_with(f"<DeleteResult><Error><Key>x</Key><Code>{code}</Code></Error></DeleteResult>")


def answer_with(body: str) -> Harm:
    """A fault: the server isn't asked, and the answer is `body`."""

    headers = {"Content-Type": "application/xml", "Content-Length": str(len(body))}
    return lambda *asked: Answer(200, headers, body.encode())


def test_an_error_within_a_success_is_seen(s3: Bucket, faulty: Proxy) -> None:
    faulty.faults = [Fault(refuse(200, "InternalError"), on="POST .*uploadId", times=1)]
    assert storage.publish(f"{s3.uri}/x", lambda file: file.write(LARGE * 2))
    assert s3.keys() == ["x"]


def test_a_missing_bucket_is_told_with_the_setting(s3: Bucket) -> None:
    uri = f"{s3.uri}-none"
    for use in (USES["check"], USES["list"]):
        with pytest.raises(
            DependencyError, match=rf"^(output|corpus).uri: {uri}.*there is no bucket {s3.name}-none \("
        ):
            use(uri)
    with pytest.raises(DependencyError, match="there is no bucket"):
        storage.exists(f"{uri}/x")


def test_a_name_that_no_bucket_can_have_is_told(s3: Bucket) -> None:
    error = what(lambda: storage.list_names("s3://No bucket/x"))
    assert str(error) == "s3://No bucket/x: ParamValidationError; check the bucket's name and the s3 settings"


def test_an_error_comes_through_a_parquet_files_reader_and_writer(s3: Bucket, faulty: Proxy) -> None:
    rows = pa.table({"text": [os.urandom(1000) for _ in range(20_000)]})
    storage.put(f"{s3.uri}/x.parquet", parquet(rows))
    faulty.faults = [Fault(refuse(403, "AccessDenied"), on="PUT|GET .*/x.parquet", every=2)]
    with pytest.raises(DependencyError, match="access is denied"), storage.open_input(f"{s3.uri}/x.parquet") as file:
        pq.ParquetFile(file).read()
    with pytest.raises(DependencyError, match="access is denied"):
        storage.publish(f"{s3.uri}/y.parquet", lambda sink: pq.write_table(rows, sink))


def test_a_missing_object_is_a_data_error(s3: Bucket) -> None:
    assert isinstance(what(lambda: storage.read_bytes(f"{s3.uri}/none")), DataError)


def test_nobody_there_is_told_within_the_time(s3: Bucket) -> None:
    storage.configure(S3(endpoint_url="http://127.0.0.1:9", timeout_s=2))
    error = what(lambda: storage.list_names(s3.uri))
    assert re.fullmatch(
        rf"{s3.uri}: EndpointConnectionError in each of \d+ attempts; "
        r"check s3.endpoint_url and the network, or raise s3.timeout_s \(2\)",
        str(error),
    )


def test_a_server_without_a_certificate_is_told_at_once(s3: Bucket) -> None:
    storage.configure(S3(endpoint_url=s3.server.endpoint.replace("http", "https")))
    error = what(lambda: storage.list_names(s3.uri))
    assert str(error) == f"{s3.uri}: no trusted connection; check s3.endpoint_url, or name a CA bundle in AWS_CA_BUNDLE"


@pytest.mark.usefixtures("real_server")
@pytest.mark.parametrize("use", [USES["list"], USES["exists"], USES["check"]], ids=["list", "exists", "check"])
def test_a_wrong_region_is_told_at_once(s3: Bucket, use: Callable[[str], object]) -> None:
    storage.configure(S3(endpoint_url=s3.server.endpoint, region="eu-north-1"))
    with pytest.raises(
        DependencyError, match=rf"{s3.uri}.*: bucket {s3.name} is in another region \(.*\); set s3.region"
    ):
        use(s3.uri)


def test_a_region_that_isnt_set_is_found_out(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    storage.configure(S3(endpoint_url=s3.server.endpoint))
    assert not storage.exists(f"{s3.uri}/x")


def test_a_region_that_cant_be_found_out_is_told(s3: Bucket) -> None:
    with proxy(s3.server.endpoint, Fault(refuse(301, "PermanentRedirect"))) as running:
        storage.configure(S3(endpoint_url=running.url))
        assert "is in another region" in str(what(lambda: storage.exists(f"{s3.uri}/x")))


@pytest.mark.usefixtures("real_server")
@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, r"the credentials are refused \(\w+\); check them: set AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "s3cr3t"}, r"the credentials are refused \(SignatureDoesNotMatch\); check them:"),
        ({"AWS_ACCESS_KEY_ID": ""}, r"no AWS credentials \(NoCredentialsError\); set AWS_ACCESS_KEY_ID and"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, r"no AWS credentials \(PartialCredentialsError\); set AWS_ACCESS_KEY_ID and"),
        ({"AWS_PROFILE": "s3cr3t"}, r"no AWS credentials \(ProfileNotFound\); set AWS_ACCESS_KEY_ID and"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/none"},
            r"no AWS credentials \(FileNotFoundError\); set AWS_ACCESS_KEY_ID and",
        ),
    ],
)
def test_wrong_credentials_are_told_at_once_and_not_shown(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    with proxy(s3.server.endpoint) as running:  # for an address of its own, so that the client is made anew
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        storage.configure(S3(endpoint_url=running.url))
        error = str(what(lambda: storage.exists(f"{s3.uri}/x")))
    assert re.match(f"{s3.uri}/x: {told}", error)
    assert not re.search(f"AKIAWRONG|s3cr3t|{s3.server.access_key}|{s3.server.secret_key}", error)


ROLE = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>
<SessionToken>token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


@pytest.fixture
def role(s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a pod whose service account has a role."""
    (tmp_path / "token").write_text("of the service account")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))


@pytest.mark.usefixtures("role")
def test_a_service_accounts_role_gives_credentials(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = answer_with(ROLE.format(s3.server.access_key, s3.server.secret_key))
    with proxy(s3.server.endpoint, Fault(issued, on="^POST /$")) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", running.url)
        storage.configure(S3(endpoint_url=running.url))
        storage.put(f"{s3.uri}/x", b"")
    assert s3.keys() == ["x"]


@pytest.mark.usefixtures("role")
def test_a_role_that_is_refused_is_told(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy(s3.server.endpoint, Fault(refuse(403, "AccessDenied"))) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", running.url)
        storage.configure(S3(endpoint_url=running.url))
        error = what(lambda: storage.exists(f"{s3.uri}/x"))
    assert re.fullmatch(rf"{s3.uri}/x: the role is refused \(\w+\); check AWS_ROLE_ARN and .* trust policy", str(error))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_server_on_loopback_is_reached_past_proxies(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    storage.put(s3.uri + "/x", b"content")
    monkeypatch.setenv(name, proxy)
    storage.configure(S3(endpoint_url=s3.server.endpoint, region=s3.server.region, timeout_s=21))  # a new client
    assert storage.read_bytes(s3.uri + "/x") == b"content"


@pytest.mark.parametrize(
    ("proxy", "timeout_s", "told"),
    [
        ("http://127.0.0.1:9", 0.5, "s3://bucket/x: the proxy doesn't answer .*; check HTTP_PROXY and HTTPS_PROXY"),
        ("socks5://127.0.0.1:9", 60, "HTTP_PROXY: names a SOCKS proxy, which isn't supported for S3"),
    ],
)
def test_a_proxy_that_cant_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, proxy: str, timeout_s: float, told: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    storage.configure(S3(endpoint_url="http://s3.example.com", region="us-east-1", timeout_s=timeout_s))
    assert re.match(told, str(what(lambda: storage.read_bytes("s3://bucket/x"))))


def test_credentials_and_region_may_end_in_line_breaks_and_blanks(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f" {os.environ[name]} \n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "\n")
    region = f" {s3.server.region}\n"
    storage.configure(S3(endpoint_url=s3.server.endpoint, region=region, timeout_s=22))  # a new client
    storage.put(s3.uri + "/x", b"content")
    assert storage.read_bytes(s3.uri + "/x") == b"content"


def test_the_region_of_a_variable_may_end_in_a_line_break(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", f"{s3.server.region}\n")
    storage.configure(S3(endpoint_url=s3.server.endpoint, timeout_s=23))  # a new client
    storage.put(s3.uri + "/x", b"content")
