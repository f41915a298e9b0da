"""Whether a Ray answers where RAY_ADDRESS points: `ray.init` itself tries for a quarter of an hour."""

import logging
from threading import Thread

from ragjob.errors import DependencyError

log = logging.getLogger(__name__)

SOON_S = 3.0  # an answer that comes by then isn't waited for aloud
ANSWER_S = 45.0  # Ray's own client gives up after 40 s


def require_answer(address: str) -> None:
    """Raise `DependencyError` unless a Ray cluster answers at `address` (`HOST:PORT` or `auto`) within `ANSWER_S`."""
    if "://" in address:  # Ray Client, which gives up after half a minute by itself
        return
    errors: list[str] = []
    asking = Thread(target=_ask, args=(address, errors), name="ray-reach", daemon=True)
    asking.start()
    asking.join(SOON_S)
    if asking.is_alive():
        log.warning("waiting for Ray", extra={"RAY_ADDRESS": address, "at_most_s": ANSWER_S})
        asking.join(ANSWER_S - SOON_S)
    if asking.is_alive() or errors:
        reason = errors[0] if errors else f"no answer within {ANSWER_S:g} s"
        raise DependencyError(
            f"Ray: no cluster answers at RAY_ADDRESS={address} ({reason}); check that it is running "
            "and can be reached from here, or unset RAY_ADDRESS to start a Ray on this machine"
        )


def _ask(address: str, errors: list[str]) -> None:
    try:
        from ray._private.services import canonicalize_bootstrap_address
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
    except ImportError:  # they aren't public: in another version of Ray, `ray.init` alone finds out
        return
    try:
        GcsClient(address=canonicalize_bootstrap_address(address))
    except Exception as error:  # noqa: BLE001 - Ray's errors have no common base, and each means that nobody answers
        errors.append(" ".join(str(error).split())[:200])
