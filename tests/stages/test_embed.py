from pathlib import Path

import pyarrow as pa
import pytest

from ragjob.errors import DataError
from ragjob.ledger import schema
from ragjob.models.folder import find_folder
from ragjob.models.settings import Embed
from ragjob.stages.embed import EmbedChunks, EmbedPrompts, make_for_prompts
from tests.fakes import POISON, embed_lengths, tiny_qwen2

ERRORS = pa.field("error", pa.string())


def embed(texts: list[str | None], errors: list[str | None]) -> pa.Table:
    columns = {"context": pa.nulls(len(texts), pa.string()), "text": texts, "error": pa.array(errors, pa.string())}
    return EmbedChunks(embed_lengths, 2)(pa.table(columns))


def test_a_chunk_is_embedded_behind_its_context() -> None:
    rows = pa.table({"context": ["Trams"], "text": ["Line 4"], "error": pa.nulls(1, pa.string())})
    assert EmbedChunks(embed_lengths, 2)(rows)["embedding"].to_pylist() == [[len("Trams\nLine 4"), 1]]


def test_each_row_gets_the_embedding_of_its_text() -> None:
    rows = embed(["a", "bcd"], [None, None])
    assert rows.schema == pa.schema([("context", pa.string()), ("text", pa.string()), ERRORS, *schema.embedded(2)])
    assert rows["embedding"].to_pylist() == [[1, 1], [3, 1]]


def test_each_prompt_gets_the_embedding_of_its_question() -> None:
    prompts = pa.table({"prompt": ["why?"], "error": pa.nulls(1, pa.string())})
    assert EmbedPrompts(embed_lengths, 2)(prompts)["embedding"].to_pylist() == [[4, 1]]


def test_rows_with_an_error_have_no_embedding() -> None:
    assert embed([None, "bcd"], ["text is null", None])["embedding"].to_pylist() == [None, [3, 1]]


def test_the_embeddings_of_a_block_without_a_good_row_have_their_type() -> None:
    assert embed([None], ["text is null"]).field("embedding").type == schema.embedded(2).field(0).type


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (POISON, "RuntimeError: CUDA error: device-side assert"),
        (" ", "ValueError: the embedding has values that aren't numbers; set embed.model to another model"),
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
