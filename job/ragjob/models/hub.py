"""Models on the Hugging Face hub, kept in its client's own cache."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ragjob.errors import DependencyError
from ragjob.models.files import (
    CONFIG,
    MODULES,
    OLD_WEIGHTS,
    OTHER_FORMATS,
    Source,
    check_model,
    check_paths,
    used,
    weights,
)
from ragjob.models.folder import list_folder
from ragjob.settings import proxy_fault, reached_directly, strip_variables

TIMEOUT_S = 10.0
DOWNLOADS_AT_ONCE = 8
# What a snapshot in the cache may lack.
UNUSED = [*OTHER_FORMATS, OLD_WEIGHTS, "README*", ".*"]


@dataclass(frozen=True)
class HubFiles:
    """Files of the hub's model `name` at `commit`; `revision` is what the settings ask for."""

    key: str
    name: str
    revision: str | None
    commit: str
    sizes: Mapping[str, int] = field(hash=False)

    def read(self, path: str) -> bytes:
        return self._download(path).read_bytes()

    def fetch(self) -> str:
        _set_up()  # before there are threads
        # One by one, since snapshot_download lists the files without a time limit.
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            files = dict(zip(self.sizes, pool.map(self._download, self.sizes), strict=True))
        folder = (files.get(CONFIG) or files[MODULES]).parent
        if self.revision != self.commit:
            self._note_branch(folder)
        return str(folder)

    def _download(self, path: str) -> Path:
        """The file in the hub's cache; its client keeps processes from downloading one twice."""
        _set_up()
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HTTPError

        try:
            return Path(hf_hub_download(self.name, path, revision=self.commit))
        except (OSError, HTTPError, RuntimeError, ImportError) as error:  # RuntimeError is hf_xet's
            raise DependencyError(f"{self.key}: {self.name} {_reason(error, self.key)}") from error

    def _note_branch(self, folder: Path) -> None:
        """Keep in the cache what commit the branch stood for, so that it is found offline."""
        ref = folder.parents[1] / "refs" / (self.revision or "main")
        staged = ref.with_name(f".{ref.name}.{os.getpid()}")
        with suppress(OSError):  # a cache that can't be written serves all the same
            ref.parent.mkdir(parents=True, exist_ok=True)
            staged.write_text(self.commit)
            staged.replace(ref)


def find_on_hub(name: str, revision: str | None, key: str) -> Source:
    """The hub's model `name` at `revision`, or as the cache has it if the hub can't be reached or refuses.

    Nothing is downloaded. Raises `DependencyError` when neither knows it.
    """
    _set_up()
    # HTTPError is that of whichever HTTP library this version of the hub's client uses.
    from huggingface_hub.errors import HTTPError

    try:
        commit, listed = _look_up(name, revision)
    except (OSError, HTTPError, ValueError, ImportError) as error:  # ValueError: the name, or what isn't a hub's answer
        raise DependencyError(f"{key}: {name} {_reason(error, key)}") from error
    check_paths(listed, f"{key}: {name}")
    sizes = {path: listed[path] for path in used(listed)}
    check_model(sizes, f"{key}: {name}")
    return Source(key, name, commit[:12], HubFiles(key, name, revision, commit, sizes))


def _look_up(name: str, revision: str | None) -> tuple[str, dict[str, int]]:
    """Commit, and bytes of each file."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
    except (OSError, HTTPError, ValueError, ImportError):
        if folder := _cached(name, revision):
            return folder.name, list_folder(folder)
        raise
    return str(info.sha), {file.rfilename: file.size or 0 for file in info.siblings or []}


def _cached(name: str, revision: str | None) -> Path | None:
    """The snapshot in the cache, if it is there with its weights."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        snapshot = snapshot_download(name, revision=revision, ignore_patterns=UNUSED, local_files_only=True)
        if weights(list_folder(Path(snapshot))):
            return Path(snapshot)
    return None


def _set_up() -> None:
    """Keep the hub's client from progress bars, from advice, and from telling the hub of this machine."""
    strip_variables("HF_")
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars, logging

    constants.HF_HUB_DISABLE_TELEMETRY = True
    disable_progress_bars()
    logging.set_verbosity_error()
    _choose_client(constants.ENDPOINT)


@lru_cache(maxsize=1)
def _choose_client(endpoint: str) -> None:
    """Have the hub's client pass by the environment's proxies on the way to a mirror that they can't reach."""
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook

    def past_proxies() -> httpx2.Client:
        hooks = {"request": [hf_request_event_hook]}  # as in the default
        return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None, transport=httpx2.HTTPTransport())

    set_client_factory(past_proxies if reached_directly(endpoint) else default_client_factory)


def _reason(error: Exception, key: str) -> str:
    """What happened to the model of the setting `key` and what to do, on one line."""
    from huggingface_hub import errors

    match error:
        case ImportError():
            return f"can't be looked up: {proxy_fault(error)}"
        case errors.HFValidationError():
            return "is neither a hub id nor a folder: correct the name"
        case errors.GatedRepoError():
            return "is gated: accept its terms at huggingface.co and set HF_TOKEN"
        case errors.RepositoryNotFoundError():
            return "isn't on the model hub or is private: check the name, or set HF_TOKEN"
        case errors.RevisionNotFoundError():
            return "doesn't have the requested revision: name one of its branches, tags or commits"
    first_line = str(error).partition("\n")[0]
    return f"can't be fetched from the model hub ({first_line}): set {key} to a model folder, or try again"
