"""What goes wrong with S3, as errors of ours: one line that names bucket and key, and the remedy.

No message holds what a server answered beyond its error's code: it may carry keys, tokens or signed requests.
"""

from collections.abc import Callable

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from ragjob.errors import DependencyError, RagjobError
from ragjob.storage.names import missing, split

# All that a call of boto3's raises, also for want of a token's file.
ERRORS = (boto.BotoCoreError, boto.ClientError, ResponseParserError, OSError)


class ConditionFailedError(DependencyError):
    """If-None-Match or If-Match didn't hold."""


class NoUploadError(DependencyError):
    """The multipart upload is gone: completed, or aborted by others."""


class RangeError(DependencyError):
    """The object has no such bytes."""


_PASSING_CODES = {
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
    OSError,
)
_ROLE_OPERATIONS = ("AssumeRole", "GetRoleCredentials", "CreateToken")
_CREDENTIALS_REMEDY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the service account's role"

_PRECISE: dict[str, Callable[[str], RagjobError]] = {
    "404": missing,  # of a HEAD, which has no body to tell more
    "InvalidRange": lambda uri: RangeError(f"{uri}: is shorter than expected; run the job again"),
    "NoSuchKey": missing,
    "NoSuchUpload": lambda uri: NoUploadError(f"{uri}: its upload was aborted by someone else; run the job again"),
    "PreconditionFailed": lambda uri: ConditionFailedError(
        f"{uri}: was written or changed by someone else; run the job again"
    ),
}
# What was answered, by code, and the remedy. {bucket} and {action}, as IAM calls the request, are filled in.
_DENIED = ("access is denied", "allow these credentials {action} on bucket {bucket}")
_REFUSED = ("the credentials are refused", f"check them: {_CREDENTIALS_REMEDY}")
_EXPIRED = ("the credentials have expired", "renew them")
_ELSEWHERE = ("bucket {bucket} is in another region", "set s3.region to it, or leave it out")
_KEY = ("the KMS key can't be used", "check s3.kms_key_id and the key's policy")
_SPACE = ("no space is left on the server", "free some, or raise the quota")
_REASONS = {
    "AccessDenied": _DENIED,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "InvalidAccessKeyId": _REFUSED,
    "InvalidBucketName": ("{bucket} isn't a valid bucket name", "correct the address"),
    "InvalidObjectState": ("it is archived", "restore it first"),
    "InvalidToken": _REFUSED,
    "NoSuchBucket": ("there is no bucket {bucket}", "create it, or correct the address"),
    "NotImplemented": ("the server doesn't support {action}", "use one that does"),
    "QuotaExceeded": _SPACE,
    "RequestTimeTooSkewed": ("this machine's clock and the server's differ", "set the clock"),
    "SignatureDoesNotMatch": _REFUSED,
    "TokenRefreshRequired": _EXPIRED,
    "XAdminUserNotFound": _REFUSED,  # versitygw's
}
_BY_STATUS = {301: _ELSEWHERE, 307: _ELSEWHERE, 403: _DENIED, 507: _SPACE}
_ACTIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObjects": "s3:DeleteObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
}


def may_pass(error: BaseException) -> bool:
    """Return whether the same request may succeed a little later."""
    if isinstance(error, boto.ClientError):
        status = _status(error)
        return _code(error) in _PASSING_CODES or status == 429 or (status >= 500 and status not in _LASTING_STATUSES)
    return isinstance(error, _PASSING_ERRORS) and not isinstance(error, boto.SSLError)


def failure(uri: str, error: Exception, attempts: int, timeout_s: float) -> RagjobError:
    """The error of ours for one of boto3's, met in the last of `attempts` attempts within `timeout_s`."""
    if isinstance(error, boto.ClientError):
        return _answered(uri, error, attempts, timeout_s)
    kind = type(error).__name__
    if isinstance(error, boto.SSLError):
        return DependencyError(
            f"{uri}: no trusted connection; check s3.endpoint_url, or name a CA bundle in AWS_CA_BUNDLE"
        )
    if isinstance(error, boto.ProxyConnectionError):
        return DependencyError(
            f"{uri}: the proxy doesn't answer ({attempts} attempts); check HTTP_PROXY and HTTPS_PROXY, or name the "
            "server in NO_PROXY"
        )
    if isinstance(error, _PASSING_ERRORS):
        return DependencyError(
            f"{uri}: {kind} in each of {attempts} attempts; check s3.endpoint_url and the network, "
            f"or raise s3.timeout_s ({timeout_s:g})"
        )
    if isinstance(error, _CREDENTIAL_ERRORS):
        return DependencyError(f"{uri}: no AWS credentials ({kind}); {_CREDENTIALS_REMEDY}")
    return DependencyError(f"{uri}: {kind}; check the bucket's name and the s3 settings")


def _answered(uri: str, error: boto.ClientError, attempts: int, timeout_s: float) -> RagjobError:
    code, status, operation = _code(error), _status(error), error.operation_name
    if operation.startswith(_ROLE_OPERATIONS):
        return DependencyError(f"{uri}: the role is refused ({code}); check AWS_ROLE_ARN and the role's trust policy")
    if code in _PRECISE:
        return _PRECISE[code](uri)
    if may_pass(error):
        waited = f"try later, or raise s3.timeout_s ({timeout_s:g})"
        return DependencyError(f"{uri}: {operation} failed in each of {attempts} attempts ({code}); {waited}")
    unknown = (f"{operation} was answered {status}", "check the s3 settings and the server's log")
    known = _KEY if code.startswith("KMS.") else _REASONS.get(code) or _BY_STATUS.get(status)
    told = {"bucket": split(uri)[0], "action": _ACTIONS.get(operation, "s3:PutObject")}
    reason, remedy = (text.format(**told) for text in known or unknown)
    return DependencyError(f"{uri}: {reason} ({code}); {remedy}")


def _code(error: boto.ClientError) -> str:
    return error.response.get("Error", {}).get("Code") or str(_status(error))


def _status(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
