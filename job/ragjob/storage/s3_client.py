"""One client for S3 per process, and one way to try again."""

from collections.abc import Callable
from functools import lru_cache, partial
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import boto3
from botocore.config import Config
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from ragjob.errors import DependencyError, SettingsError
from ragjob.settings import reached_directly, strip_variables
from ragjob.storage import settings
from ragjob.storage.names import split
from ragjob.storage.s3_errors import ERRORS, failure, may_pass
from ragjob.storage.settings import S3

T = TypeVar("T")

CONNECTIONS = 32
# Of `s3.timeout_s`: what an attempt may wait for its connection, and then for each piece of an answer. No attempt
# begins so late that it could end after `s3.timeout_s`.
_CONNECT_SHARE, _ANSWER_SHARE = 1 / 12, 1 / 4

_making = Lock()


def attempt(uri: str, use: Callable[[Any], T]) -> T:
    """Call `use` with the client, again and again while its failures may pass, within `s3.timeout_s`.

    So `use` may take effect twice. Raises `MissingError`, `ConditionFailedError`, `NoUploadError`, `RangeError`, and
    `DependencyError` for any other failure.
    """
    timeout_s = settings.current.timeout_s
    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_before_delay(timeout_s * (1 - _CONNECT_SHARE - _ANSWER_SHARE)),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    try:
        return retrying(lambda: use(client()))
    except ERRORS as error:
        failed = failure(uri, error, retrying.statistics.get("attempt_number", 1), timeout_s)
    raise failed  # apart from its cause, which may hold keys


def client() -> Any:
    """The client of boto3, which threads may share."""
    with _making:
        return _made(settings.current)


def where(uri: str) -> dict[str, str]:
    """`uri` as arguments of a request on one object."""
    bucket, key = split(uri)
    return {"Bucket": bucket, "Key": key}


def encryption() -> dict[str, str]:
    """What a request that makes an object says about its encryption."""
    asked = {"ServerSideEncryption": settings.current.sse, "SSEKMSKeyId": settings.current.kms_key_id}
    return {name: value for name, value in asked.items() if value}


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
    strip_variables("AWS_")
    made = _open(s3, config)
    address, proxies = made.meta.endpoint_url, getproxies()
    if proxies and reached_directly(address):
        made = _open(s3, config.merge(Config(proxies={})))
    elif proxies.get(scheme := urlsplit(address).scheme, "").startswith("socks"):
        raise DependencyError(
            f"{scheme.upper()}_PROXY: names a SOCKS proxy, which isn't supported for S3; name an HTTP proxy, or put "
            "the server into NO_PROXY"
        )
    made.meta.events.register_last("before-parameter-build.s3", partial(_stay, s3.region))
    return made


def _open(s3: S3, config: Config) -> Any:
    try:
        return boto3.Session().client("s3", region_name=s3.region, endpoint_url=s3.endpoint_url, config=config)
    except ValueError:  # of AWS_ENDPOINT_URL: the setting is checked when it is read
        raise SettingsError(
            "AWS_ENDPOINT_URL: isn't of the form http://HOST:PORT or https://HOST; correct it, or unset it"
        ) from None


def _stay(region: str | None, model: Any, context: dict[str, Any], **_: Any) -> None:
    """Make a bucket outside the region that is set an error.

    Without a region, botocore looks up where the bucket is. It mustn't follow redirects meanwhile: that may never end.
    """
    if region or model.name == "HeadBucket":
        context["s3_redirect"]["redirected"] = True
