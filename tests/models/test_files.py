from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ragjob.errors import DataError
from ragjob.models.files import check_paths, inside, used, weights

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


PARTS = st.sampled_from(["", ".", "..", "...", "model", "con fig.json", "b\\c", "\0", "é\n", "~", "C:"])
PATHS = st.lists(PARTS, min_size=1, max_size=6).map("/".join) | st.text(min_size=1)


@given(path=PATHS)
def test_whatever_a_key_says_the_path_that_is_written_lies_inside_the_models_folder(
    tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    assume(is_accepted(path))
    target = inside(folder, path)
    assert folder in target.parents
    assert target.resolve().relative_to(folder.resolve()).as_posix() == path


def is_accepted(path: str) -> bool:
    try:
        check_paths([path], "embed.model: s3://bucket/model")
    except DataError:
        return False
    return True


@pytest.mark.parametrize(
    "path",
    [
        "/etc/evil.py",
        "a//b",
        "../b",
        "a/../../b",
        "a/..",
        "./a",
        "a/./b",
        "a\0b",
        "..\\b",
        "a\\b",
        "C:\\b",
        "a/",
        "/",
        "",
    ],
)
def test_a_path_that_could_lead_out_of_the_models_folder_is_a_data_error(path: str) -> None:
    with pytest.raises(DataError, match=r"^embed.model: s3://bucket/model has a file named [^\n]*; remove that file$"):
        check_paths(["config.json", path], "embed.model: s3://bucket/model")


@pytest.mark.parametrize(
    "path", ["config.json", "1_Pooling/config.json", "a..b/c", ".gitattributes", "...", "~/a", "a b"]
)
def test_a_path_below_the_models_folder_is_taken(path: str) -> None:
    assert is_accepted(path)


def test_nothing_is_written_through_a_link_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "1_Pooling").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"1_Pooling/config.json lies outside .*/staged; remove the link"):
        inside(staged, "1_Pooling/config.json")
