"""One client for S3 a process, one way to try again, and its errors as ours.

No message holds what a server answered beyond its error's code, nor an error of boto3's as its cause: either may
carry keys, tokens or signed requests.
"""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from job.config import S3
from job.errors import DependencyError, RagjobError, SettingsError
from job.storage import settings
from job.storage.names import missing

T = TypeVar("T")

CONNECTIONS = 32
# Of `s3.timeout_s`: what an attempt may wait for its connection, and then for each piece of an answer. No attempt
# begins so late that it could end after `s3.timeout_s`.
_CONNECT_SHARE, _ANSWER_SHARE = 1 / 12, 1 / 4

_PASSING = {
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_LASTING_STATUSES = {501, 507}  # not implemented, no space left
_PASSING_ERRORS = (
    boto.ChecksumError,
    boto.ConnectionError,
    boto.FlexibleChecksumError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    ResponseParserError,
)
_CREDENTIAL_ERRORS = (
    boto.ConfigNotFound,
    boto.ConfigParseError,
    boto.CredentialRetrievalError,
    boto.InvalidConfigError,
    boto.LoginError,
    boto.MetadataRetrievalError,
    boto.NoAuthTokenError,
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.SSOError,
    boto.TokenRetrievalError,
    boto.UnknownCredentialError,
    OSError,  # a token's file that isn't there
)


class ConditionFailedError(DependencyError):
    """If-None-Match or If-Match didn't hold."""


class NoUploadError(DependencyError):
    """The multipart upload is gone: completed, or aborted by others."""


class RangeError(DependencyError):
    """The object has no such bytes."""


def attempt(uri: str, use: Callable[[Any], T]) -> T:
    """Give `use` the client, again and again while what it meets may pass, within `s3.timeout_s`.

    `use` may so take effect twice. Raises `MissingError`, `ConditionFailedError`, `NoUploadError`, `RangeError`, and
    `DependencyError` for whatever else doesn't pass.
    """
    budget_s = settings.current.timeout_s
    retrying = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_before_delay(budget_s * (1 - _CONNECT_SHARE - _ANSWER_SHARE)),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    try:
        return retrying(lambda: use(client()))
    except (boto.BotoCoreError, boto.ClientError, ResponseParserError, OSError) as error:
        failure = _failure(uri, error, retrying.statistics["attempt_number"])
    raise failure


def split(uri: str) -> tuple[str, str]:
    """Bucket and key. Raises `SettingsError` when no bucket is named."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise SettingsError(f"{uri}: names no bucket; write s3://BUCKET/FOLDER")
    return bucket, key


def where(uri: str) -> dict[str, str]:
    """`uri` as arguments of a request on one object."""
    bucket, key = split(uri)
    return {"Bucket": bucket, "Key": key}


def encryption() -> dict[str, str]:
    """What a request that makes an object says of its encryption."""
    named = {"ServerSideEncryption": settings.current.sse, "SSEKMSKeyId": settings.current.kms_key_id}
    return {name: value for name, value in named.items() if value}


_MAKING = Lock()


def client() -> Any:
    with _MAKING:  # making one isn't safe between threads, using it is
        return _made(settings.current)


@lru_cache(maxsize=1)
def _made(s3: S3) -> Any:
    config = Config(
        connect_timeout=s3.timeout_s * _CONNECT_SHARE,
        read_timeout=s3.timeout_s * _ANSWER_SHARE,
        retries={"total_max_attempts": 1, "mode": "standard"},  # ours are the only ones
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": {None: "auto", True: "path", False: "virtual"}[s3.path_style]},
        request_checksum_calculation="when_required",  # other servers than AWS's often refuse the newer ones
        response_checksum_validation="when_required",
    )
    client = boto3.Session().client("s3", region_name=s3.region, endpoint_url=s3.endpoint_url, config=config)
    if s3.region:
        client.meta.events.register_last("before-parameter-build.s3", _stay_in_region)
    return client


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    """Have a bucket elsewhere answered as the error that it is; botocore would look for its region."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, boto.ClientError):
        status = _status(error)
        return _code(error) in _PASSING or status == 429 or (status >= 500 and status not in _LASTING_STATUSES)
    return isinstance(error, _PASSING_ERRORS) and not isinstance(error, boto.SSLError)


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _failure(uri: str, error: Exception, attempts: int) -> RagjobError:
    if isinstance(error, boto.ClientError):
        return _answered(uri, error, attempts)
    kind = type(error).__name__
    if isinstance(error, boto.SSLError):
        return DependencyError(f"{uri}: the server's certificate is refused; check s3.endpoint_url and AWS_CA_BUNDLE")
    if isinstance(error, _PASSING_ERRORS):
        return DependencyError(
            f"{uri}: {kind} in each of {attempts} attempts; check s3.endpoint_url and the network, "
            f"or raise s3.timeout_s ({settings.current.timeout_s:g})"
        )
    if isinstance(error, _CREDENTIAL_ERRORS):
        return DependencyError(f"{uri}: no AWS credentials ({kind}); {_CREDENTIALS_REMEDY}")
    return DependencyError(f"{uri}: {kind}; check the bucket's name and the s3 settings")


_CREDENTIALS_REMEDY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the service account's role"

_PRECISE: dict[str, Callable[[str], RagjobError]] = {
    "404": missing,  # of a HEAD, which has no body to tell more
    "InvalidRange": lambda uri: RangeError(f"{uri}: has no such bytes; run it again"),
    "NoSuchKey": missing,
    "NoSuchUpload": lambda uri: NoUploadError(f"{uri}: its upload was aborted by others; run it again"),
    "PreconditionFailed": lambda uri: ConditionFailedError(f"{uri}: was put or changed by others; run it again"),
}
# What was answered, by code, and the remedy. {bucket} and {action} (what IAM calls the request) are filled in.
_REFUSED = ("the credentials are refused", f"check them: {_CREDENTIALS_REMEDY}")
_EXPIRED = ("the credentials have expired", "renew them")
_ELSEWHERE = ("bucket {bucket} is in another region", "set s3.region to it, or leave it out")
_KEY = ("the KMS key can't be used", "check s3.kms_key_id and the key's policy")
_SPACE = ("no space is left on the server", "free some, or raise the quota")
_REASONS = {
    "AccessDenied": ("access is denied", "allow these credentials {action} on bucket {bucket}"),
    "AllAccessDisabled": ("bucket {bucket} is locked", "unlock it, or name another"),
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "InvalidAccessKeyId": _REFUSED,
    "InvalidBucketName": ("{bucket} is no name of a bucket", "mend the address"),
    "InvalidObjectState": ("is archived", "restore it first"),
    "InvalidToken": _REFUSED,
    "NoSuchBucket": ("there is no bucket {bucket}", "make it, or mend the address"),
    "NotImplemented": ("the server can't do {action}", "use one that can"),
    "PermanentRedirect": _ELSEWHERE,
    "QuotaExceeded": _SPACE,
    "RequestTimeTooSkewed": ("this machine's clock and the server's differ", "set the clock"),
    "SignatureDoesNotMatch": _REFUSED,
    "TokenRefreshRequired": _EXPIRED,
    "XAdminUserNotFound": _REFUSED,  # versitygw's
    "XMinioStorageFull": _SPACE,
}
# Forms of codes that stand for one of those, by how they begin.
_ALIKE = {"KMS.": _KEY, "301": _ELSEWHERE, "403": _REASONS["AccessDenied"], "507": _SPACE}
_ACTIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObjects": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
}


def _answered(uri: str, error: boto.ClientError, attempts: int) -> RagjobError:
    code, status, operation = _code(error), _status(error), str(error.operation_name)
    if operation.startswith(("AssumeRole", "GetRoleCredentials", "CreateToken")):
        return DependencyError(
            f"{uri}: the role's credentials are refused ({code}); check the role and its trust policy"
        )
    if code in _PRECISE:
        return _PRECISE[code](uri)
    alike = (reason for start, reason in _ALIKE.items() if code.startswith(start) or str(status) == start)
    reason, remedy = _REASONS.get(code) or next(alike, None) or _unknown(error, attempts)
    told = {"bucket": split(uri)[0], "action": _ACTIONS.get(operation, "s3:PutObject")}
    return DependencyError(f"{uri}: {reason.format(**told)} ({code}); {remedy.format(**told)}")


def _unknown(error: boto.ClientError, attempts: int) -> tuple[str, str]:
    if _may_pass(error):
        waited = f"try later, or raise s3.timeout_s ({settings.current.timeout_s:g})"
        return f"{error.operation_name} failed in each of {attempts} attempts", waited
    return f"{error.operation_name} was answered {_status(error)}", "check the s3 settings and the server's log"
