"""A model folder that somebody else has filled runs no code of theirs."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ragjob.engines.base import Completion, Request
from ragjob.engines.transformers.generator import CausalLM
from ragjob.errors import DataError
from ragjob.models.embedder import open_embedder
from ragjob.models.folder import find_folder
from ragjob.models.settings import Embed
from ragjob.models.source import loading
from tests.fakes import tiny_qwen2

MARK = "ran"  # the file that hostile code makes in the folder
Poison = Callable[[Path], None]


def change(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file, which may be missing."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | fields))


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._file,)


def code(folder: Path) -> None:
    """Modules that transformers and sentence-transformers could be told to import."""
    text = f"import pathlib; pathlib.Path({str(folder / MARK)!r}).touch()\n"
    for name in ("evil", "modeling_evil", "configuration_evil", "tokenization_evil", "modeling_bert"):
        (folder / f"{name}.py").write_text(text + "class Evil: pass\n")


def pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Touch(folder / MARK)}))


def pickle_named_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(pickle.dumps(Touch(folder / MARK)))


def code_for_the_model(folder: Path) -> None:
    code(folder)
    auto = {"AutoConfig": "configuration_evil.Evil", "AutoModel": "modeling_evil.Evil"}
    change(folder / "config.json", auto_map=auto | {"AutoModelForCausalLM": "modeling_evil.Evil"}, model_type="evil")


def code_beside_a_known_model(folder: Path) -> None:
    code(folder)
    auto = {"AutoConfig": "configuration_evil.Evil", "AutoModel": "modeling_evil.Evil"}
    change(folder / "config.json", auto_map=auto | {"AutoModelForCausalLM": "modeling_evil.Evil"})


def code_for_the_tokenizer(folder: Path) -> None:
    code(folder)
    auto = {"AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]}
    change(folder / "tokenizer_config.json", auto_map=auto, tokenizer_class="Evil")


def code_for_a_module(folder: Path) -> None:
    code(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]
    (folder / "modules.json").write_text(json.dumps(modules))


def function_for_a_module(folder: Path) -> None:
    modules = [{"idx": 0, "name": "0", "path": "", "type": "os.system"}]
    (folder / "modules.json").write_text(json.dumps(modules))


def generation_code(folder: Path) -> None:
    code(folder)
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "evil.py", folder / "custom_generate" / "generate.py")
    change(folder / "generation_config.json", custom_generate=str(folder))


def template_with_code(folder: Path) -> None:
    attack = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('touch MARK') }}"
    template = attack.replace("MARK", str(folder / MARK))
    (folder / "chat_template.jinja").write_text(template)
    change(folder / "tokenizer_config.json", chat_template=template)


@pytest.fixture
def encoder(minilm: str, tmp_path: Path) -> Path:
    """A copy of the embedding model; the weights are a link."""
    folder = tmp_path / "model"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").symlink_to(Path(minilm) / "model.safetensors")
    return folder


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    return tiny_qwen2(tmp_path / "model")


def embed(folder: Path) -> int:
    """Embed a question with the model in a folder; gives the vector's length."""
    embedder = open_embedder(Embed(), find_folder(str(folder), "embed.model"), "float32", threads=1, gpus=0)
    return embedder.embed_queries(["Where is the depot?"]).shape[1]


def generate(folder: Path) -> list[type]:
    """Answer a question with the model in a folder; gives what came of it."""
    settings: dict[str, Any] = {"max_new_tokens": 4, "temperature": 0, "batch_size": 2, "batch_tokens": 512}
    with loading(find_folder(str(folder), "generate.model")) as path:
        model = CausalLM(path, dtype="float32", threads=1, gpus=0, **settings)
    return [type(answer) for answer in model.generate([Request("Be brief.", "Where is it?", "Where is it?", [])])]


REFUSED = [pickled_weights, pickle_named_safetensors, code_for_the_model]
IGNORED = [code_beside_a_known_model, code_for_the_tokenizer]


@pytest.mark.filterwarnings("ignore")  # of torch, about an old pickle
@pytest.mark.parametrize("poison", [*REFUSED, code_for_a_module, function_for_a_module])
def test_an_embedding_model_that_would_run_code_is_a_data_error(encoder: Path, poison: Poison) -> None:
    poison(encoder)
    with pytest.raises(DataError, match=r"^embed.model: [^\n]* can't be loaded "):
        embed(encoder)
    assert not (encoder / MARK).exists()


@pytest.mark.parametrize("poison", IGNORED)
def test_an_embedding_model_with_code_that_isnt_needed_is_used_without_it(encoder: Path, poison: Poison) -> None:
    poison(encoder)
    assert embed(encoder) == 384
    assert not (encoder / MARK).exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("poison", REFUSED)
def test_a_language_model_that_would_run_code_is_a_data_error(decoder: Path, poison: Poison) -> None:
    poison(decoder)
    with pytest.raises(DataError, match=r"^generate.model: [^\n]* can't be loaded "):
        generate(decoder)
    assert not (decoder / MARK).exists()


@pytest.mark.parametrize("poison", [*IGNORED, generation_code])
def test_a_language_model_with_code_that_isnt_needed_is_used_without_it(decoder: Path, poison: Poison) -> None:
    poison(decoder)
    assert generate(decoder) == [Completion]
    assert not (decoder / MARK).exists()


def test_a_chat_template_cant_reach_python(decoder: Path) -> None:
    template_with_code(decoder)
    with pytest.raises(DataError, match=r"^generate.model: [^\n]* SecurityError: access to attribute"):
        generate(decoder)
    assert not (decoder / MARK).exists()
