"""Models that bring code of their own, which this program never runs."""

import json
from importlib.util import find_spec
from pathlib import Path

from ragjob.errors import DataError
from ragjob.models.files import CONFIG, MODULES, Source, read_json, read_modules

# Where transformers lists the types of models that it has code for; to import that takes seconds.
LISTS = ("models/auto/auto_mappings.py", "models/auto/configuration_auto.py")


def refuse_own_code(source: Source) -> None:
    """Raise `DataError` for a model that can only be loaded with code from its own files."""
    config = read_json(source, CONFIG)
    foreign = [kind for kind in read_modules(source) if not kind.startswith("sentence_transformers.")]
    if foreign:
        told = f"{foreign[0]} in {MODULES}"
    elif config.get("auto_map") and not _is_known(config.get("model_type")):
        told = f"auto_map in {CONFIG}"
    else:
        return
    raise DataError(
        f"{source.key}: {source.name} needs code of its own ({told}), and trust_remote_code=True is "
        "never set here; name a model that transformers supports"
    )


def _is_known(model_type: object) -> bool:
    package = find_spec("transformers")
    if package is None or not package.origin:
        return False
    lists = [Path(package.origin).parent / path for path in LISTS]
    return any(json.dumps(model_type) in file.read_text("utf-8") for file in lists if file.is_file())
