from pathlib import Path

import pyarrow as pa
import pytest

from job import schema
from job.config import Embed
from job.errors import DataError
from job.models.folder import find_folder
from job.stages.embed import EmbedStage, make_for_prompts
from tests.fakes import POISON, embed_lengths, tiny_qwen2

ERRORS = pa.field("error", pa.string())


def embed(texts: list[str | None], errors: list[str | None]) -> pa.Table:
    rows = pa.table({"text": texts, "error": pa.array(errors, pa.string())})
    return EmbedStage(embed_lengths, 2, "text")(rows)


def test_each_row_gets_the_embedding_of_its_text() -> None:
    rows = embed(["a", "bcd"], [None, None])
    assert rows.schema == pa.schema([("text", pa.string()), ERRORS, *schema.embedded(2)])
    assert rows["embedding"].to_pylist() == [[1, 1], [3, 1]]


def test_rows_with_an_error_have_no_embedding() -> None:
    assert embed([None, "bcd"], ["text is null", None])["embedding"].to_pylist() == [None, [3, 1]]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (POISON, "RuntimeError: CUDA error: device-side assert"),
        (" ", "ValueError: the embedding has values that aren't numbers"),
    ],
)
def test_a_text_that_the_model_fails_on_is_an_error_while_its_neighbours_stay(text: str, error: str) -> None:
    rows = embed(["a", "bc", text, "bcde"], [None] * 4)
    assert rows["embedding"].to_pylist() == [[1, 1], [2, 1], None, [4, 1]]
    assert rows["error"].to_pylist() == [None, None, error, None]


def test_a_model_that_cant_be_loaded_is_named_with_its_setting(tmp_path: Path) -> None:
    (tiny_qwen2(tmp_path) / "model.safetensors").write_bytes(b"not weights")
    model = find_folder(str(tmp_path), "embed.model")
    with pytest.raises(DataError, match=rf"^embed.model: {tmp_path} can't be loaded \([^\n]*name another model$"):
        make_for_prompts(Embed(), model, "float32", threads=1)
