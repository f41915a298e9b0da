import json
import time
from pathlib import Path

import pytest

from ragjob.errors import DataError
from ragjob.models.source import resolve

EVIL = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.EvilConfig"}


def model(folder: Path, config: dict[str, object], modules: object = None) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"12")
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    if modules is not None:
        (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize("key", ["embed.model", "generate.model"])
@pytest.mark.parametrize(
    ("config", "modules", "told"),
    [
        ({"model_type": "evil", "auto_map": EVIL}, None, "auto_map in config.json"),
        ({"auto_map": EVIL}, None, "auto_map in config.json"),
        ({"model_type": "bert"}, [{"path": "", "type": "modeling_evil.Evil"}], "modeling_evil.Evil in modules.json"),
    ],
)
def test_a_model_with_code_of_its_own_is_refused_at_once_with_the_setting_that_it_would_take(
    tmp_path: Path, key: str, config: dict[str, object], modules: object, told: str
) -> None:
    start, folder = time.process_time(), model(tmp_path, config, modules)
    with pytest.raises(DataError) as caught:
        resolve(str(folder), None, key, "cache")
    assert str(caught.value).startswith(f"{key}: {folder} needs code of its own ({told}), and trust_remote_code")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("model_type", ["qwen2", "bert", "phi3"])
def test_a_model_whose_code_transformers_has_is_taken_without_its_own(tmp_path: Path, model_type: str) -> None:
    folder = model(tmp_path, {"model_type": model_type, "auto_map": EVIL})
    assert resolve(str(folder), None, "embed.model", "cache").name == str(folder)


@pytest.mark.parametrize("modules", [{"a": 1}, [1], [{"path": ""}], "modules"])
def test_modules_that_are_none_are_named(tmp_path: Path, modules: object) -> None:
    folder = model(tmp_path, {"model_type": "bert"}, modules)
    with pytest.raises(DataError, match=r"^embed.model: .*: modules.json holds no list of modules"):
        resolve(str(folder), None, "embed.model", "cache")
