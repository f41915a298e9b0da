"""A model's files, wherever they are kept, and which of them are needed to load it."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from ragjob.errors import DataError

CONFIG = "config.json"
MODULES = "modules.json"  # of a sentence-transformers model: its parts, in order
# What torch doesn't load: 0.9 GB of it stand beside the 90 MB of all-MiniLM-L6-v2's weights.
OTHER_FORMATS = [
    "*.onnx",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.tflite",
    "*.gguf",
    "*.pt",
    "*.pth",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "original/*",
    "metal/*",
    "consolidated*",
]
OLD_WEIGHTS = "pytorch_model*.bin"  # not loaded where there are safetensors


class Files(Protocol):
    """The files of one model, where they are kept."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file that is needed to load the model, by its path."""
        ...

    def read(self, path: str) -> bytes:
        """Content of one of them, without fetching the others."""
        ...

    def fetch(self) -> str:
        """Have them all in a local folder, fetched once per node."""
        ...


@dataclass(frozen=True)
class Source:
    """The model that the setting `key` names; equal revisions mean equal files."""

    key: str
    name: str
    revision: str
    files: Files

    @property
    def label(self) -> str:
        return f"{self.name}@{self.revision}"


def used(paths: Iterable[str]) -> list[str]:
    """The files that are needed to load a model, sorted: no READMEs, no hidden files, one format of weights."""
    shown = [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]
    kept = [path for path in shown if not path.rpartition("/")[2].startswith("README")]
    kept = [path for path in kept if not any(fnmatch(path, pattern) for pattern in OTHER_FORMATS)]
    if any(path.endswith(".safetensors") and "/" not in path for path in kept):
        kept = [path for path in kept if not fnmatch(path, OLD_WEIGHTS)]
    return sorted(kept)


def weights(sizes: Mapping[str, int]) -> list[str]:
    """The files with weights among those used: safetensors, or else `.bin`."""
    return [path for path in sizes if path.endswith(".safetensors")] or [
        path for path in sizes if path.endswith(".bin")
    ]


def check_model(sizes: Mapping[str, int], what: str) -> None:
    """Raise `DataError` if these aren't a model's files; `what` names setting and place."""
    if CONFIG not in sizes and MODULES not in sizes:
        raise DataError(f"{what} isn't a model, since it has no {CONFIG}; name one that from_pretrained can load")
    if not weights(sizes):
        raise DataError(f"{what} has no weights, neither *.safetensors nor *.bin; add them")


def check_paths(paths: Iterable[str], what: str) -> None:
    """Raise `DataError` unless all of a model's files lie inside its folder; `what` names the model."""
    for path in paths:
        if "\\" in path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise DataError(f"{what} has a file named {path!r}, which leads out of its folder; remove that file")


def inside(folder: Path, path: str) -> Path:
    """Where to write the file `path` of a model that is kept in `folder`.

    Raises `DataError` when that isn't below `folder`, also where a link leads out of it.
    """
    target = folder / path
    if folder.resolve() not in target.resolve().parents:
        raise DataError(f"{target} lies outside {folder}; remove the link that leads there")
    return target


def content_revision(tags: Mapping[str, str]) -> str:
    """12 hex digits of a SHA-256 over the files' paths and what identifies their content."""
    return hashlib.sha256(json.dumps(tags).encode()).hexdigest()[:12]


def read_json(source: Source, path: str) -> dict[str, Any]:
    """A JSON file of the model, empty if there is none."""
    content = _parsed(source, path) if path in source.files.sizes else {}
    if not isinstance(content, dict):
        raise DataError(f"{source.key}: {source.name}: {path} isn't a JSON object; correct or replace it")
    return content


def read_modules(source: Source) -> dict[str, str]:
    """The parts of a sentence-transformers model, in order: each one's class, and its folder, "" or "x/"."""
    modules = _parsed(source, MODULES) if MODULES in source.files.sizes else []
    try:
        return {part["type"]: f"{part['path'].strip('./')}/".lstrip("/") for part in modules}
    except (TypeError, KeyError, AttributeError) as error:
        what = f"{source.key}: {source.name}: {MODULES} holds no list of modules"
        raise DataError(f"{what}; correct or replace it") from error


def static_folder(source: Source) -> str | None:
    """The folder of a static embedding model's one table and its tokenizer, "" or "x/"; None for other models."""
    kind, folder = next(iter(read_modules(source).items()), ("", ""))
    return folder if kind.startswith("sentence_transformers.") and kind.endswith(".StaticEmbedding") else None


def _parsed(source: Source, path: str) -> Any:
    try:
        return json.loads(source.files.read(path))
    except ValueError as error:
        raise DataError(f"{source.key}: {source.name}: {path} isn't JSON ({error}); correct or replace it") from error
