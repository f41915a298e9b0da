import pytest

from ragjob.models.files import used, weights

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]


def test_what_torch_doesnt_load_is_left_out() -> None:
    kept = ["1_Pooling/config.json", "2_Dense/model.safetensors", "config.json", "model.safetensors"]
    others = ["README.md", "1_Pooling/README.md", ".gitattributes", ".cache/state", "tf_model.h5", "model.gguf"]
    assert used([*kept, *others, "onnx/config.json", "openvino/model.bin", "original/consolidated.00.pth"]) == kept


def test_one_format_of_weights_is_taken() -> None:
    assert used(["pytorch_model.bin", "model.safetensors"]) == ["model.safetensors"]
    assert used(["pytorch_model-00001-of-00002.bin", *SHARDS]) == SHARDS


def test_bin_weights_are_taken_where_there_are_no_safetensors() -> None:
    files = ["2_Dense/pytorch_model.bin", "config.json", "pytorch_model.bin"]
    assert used(files) == files


def test_weights_in_the_publishers_own_format_dont_stand_for_the_others() -> None:
    assert used(["consolidated.safetensors", "pytorch_model.bin"]) == ["pytorch_model.bin"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [(["a.safetensors", "b.bin", "c.json"], ["a.safetensors"]), (["b.bin", "c.json"], ["b.bin"]), (["c.json"], [])],
)
def test_bin_files_count_as_weights_where_there_are_no_safetensors(files: list[str], expected: list[str]) -> None:
    assert weights(dict.fromkeys(files, 1)) == expected
