"""Find a model by its name, and load it from where it is found.

A model is named by a hub id (`org/name`), a local folder, an `s3://` prefix, or `package:NAME` for
weights inside an installed package.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragjob.errors import DataError, DependencyError, RagjobError, SettingsError
from ragjob.models.bucket import S3, find_in_bucket
from ragjob.models.files import Source
from ragjob.models.folder import PACKAGE, find_folder, find_package
from ragjob.models.hub import find_on_hub
from ragjob.models.own_code import refuse_own_code

_FOLDERS = ("/", ".", "~")
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "MemoryError")


def resolve(name: str, revision: str | None, key: str, cache: str) -> Source:
    """Find out what exactly the setting `key` names, without downloading anything.

    The revision is 12 hex digits: of the commit for a hub id, of a SHA-256 over the listing for
    `s3://`, else over the files. `cache` is the folder for models from `s3://`.

    Raises:
        SettingsError: the package isn't installed, or a model without revisions is asked for one.
        DataError: there is no model, it has no weights, or it brings code of its own.
        DependencyError: hub or bucket can't be reached, or the package's weights are altered.
    """
    source = _find(name, revision, key, cache)
    refuse_own_code(source)
    return source


def _find(name: str, revision: str | None, key: str, cache: str) -> Source:
    if not (name.startswith((PACKAGE, S3, *_FOLDERS)) or Path(name).exists()):
        return find_on_hub(name, revision, key)
    if revision is not None:
        raise SettingsError(f"{key}: {name} can't have a revision ({revision}), since only hub ids can; leave it out")
    if name.startswith(PACKAGE):
        return find_package(name, key)
    return find_in_bucket(name, key, cache) if name.startswith(S3) else find_folder(name, key)


@contextmanager
def loading(source: Source) -> Iterator[str]:
    """Yield a local folder with the model. A failure to load it becomes one line that names the setting.

    Raises `DependencyError` if the model doesn't fit into memory, else `DataError`.
    """
    folder = source.files.fetch()
    try:
        yield folder
    except RagjobError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        what = f"{source.key}: {source.name} can't be loaded ({reason})"
        if any(sign in reason for sign in _OUT_OF_MEMORY):
            raise DependencyError(f"{what}; use a smaller model, or a machine with more memory") from error
        raise DataError(f"{what}; check its files in {folder}, or name another model") from error
