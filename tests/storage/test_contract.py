"""What a place for files promises, on disk as on S3."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragjob import storage
from ragjob.errors import DataError, SettingsError
from ragjob.storage import join, list_inputs


def refuse(path: str) -> str | None:
    return None if path.endswith((".txt", ".md")) else "no text"


FILES = ["b.txt", "a.md", "sub/c.txt", "sub/deep/d.txt", "Z.txt", "picture.png", ".git/e.txt", "_tmp/f.txt"]
MORE_THAN_A_PART = 9 * 2**20
PARTS = [b"x" * 3_000_000, b"yz" * 10_000_000, b"", memoryview(b"end")]


@pytest.fixture
def corpus(place: str) -> str:
    """Five files to be read, among others."""
    for name in [*FILES, "_g.txt", ".h.txt"]:
        storage.put(join(place, "corpus", name), name.encode())
    storage.put(join(place, "corpus2", "x.txt"), b"beside")
    return join(place, "corpus")


def paths(uri: str) -> list[str]:
    return [entry.path for entry in list_inputs(uri, refuse, "corpus.uri").entries]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_is_listed_in_order_of_paths_without_hidden_and_other_files(corpus: str, slash: str) -> None:
    assert paths(corpus + slash) == ["Z.txt", "a.md", "b.txt", "sub/c.txt", "sub/deep/d.txt"]


@pytest.mark.parametrize(
    ("pattern", "relative_paths"),
    [
        ("*.txt", ["Z.txt", "b.txt"]),
        ("*", ["Z.txt", "a.md", "b.txt"]),
        ("**/*.txt", ["Z.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("**", ["Z.txt", "a.md", "b.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("sub/**", ["c.txt", "deep/d.txt"]),
        ("sub/**/*", ["c.txt", "deep/d.txt"]),
        ("s*/c.txt", ["sub/c.txt"]),
        ("**/deep/*", ["sub/deep/d.txt"]),
        ("[ab].*", ["a.md", "b.txt"]),
        ("[!a].*", ["Z.txt", "b.txt"]),
        ("?.md", ["a.md"]),
        ("../corpus2/*", ["x.txt"]),
    ],
)
def test_a_globs_paths_are_relative_to_its_part_without_wildcards(
    corpus: str, pattern: str, relative_paths: list[str]
) -> None:
    uri = join(corpus, pattern).replace("/corpus/../", "/")
    assert paths(uri) == relative_paths


def test_a_double_star_beside_other_characters_is_refused(corpus: str) -> None:
    with pytest.raises(SettingsError, match=r"^corpus.uri: .*sub\*\*: \*\* must stand alone between slashes"):
        paths(join(corpus, "sub**"))


def passed_over(uri: str) -> list[tuple[str, str, int, list[str]]]:
    listing = list_inputs(uri, refuse, "corpus.uri")
    return [(files.reason, files.extension, files.count, files.first) for files in listing.passed_over]


def test_what_is_passed_over_is_counted_by_reason_and_extension(corpus: str) -> None:
    assert passed_over(corpus) == [
        ("name begins with . or _", ".txt", 4, [".git/e.txt", ".h.txt", "_g.txt"]),
        ("no text", ".png", 1, ["picture.png"]),
    ]


def test_what_a_glob_doesnt_take_isnt_passed_over(corpus: str) -> None:
    assert passed_over(join(corpus, "*.txt")) == [("name begins with . or _", ".txt", 2, [".h.txt", "_g.txt"])]
    assert passed_over(join(corpus, "sub/**")) == []


def test_a_single_files_path_is_its_name(corpus: str) -> None:
    assert paths(join(corpus, "sub/c.txt")) == ["c.txt"]


def test_a_file_that_is_named_is_taken_though_its_name_is_hidden(corpus: str) -> None:
    assert paths(join(corpus, "_g.txt")) == ["_g.txt"]


@pytest.mark.parametrize("name", ["a[1]/x.txt", "a[1].txt"])
def test_a_name_that_has_wildcards_is_a_name_if_it_is_there(place: str, name: str) -> None:
    storage.put(join(place, name), b"")
    assert paths(join(place, name)) == [name.split("/")[-1]]


def test_a_folder_whose_name_has_wildcards_is_a_folder(place: str) -> None:
    storage.put(join(place, "a[1]", "x.txt"), b"")
    assert paths(join(place, "a[1]")) == ["x.txt"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "nothing there"),
        ("corpus/b.tx", "nothing there"),
        ("corpus/none/*.txt", "nothing there"),
        ("corpus/picture.png", r"passed over 1 file \(.png\), no text: picture.png"),
        ("corpus/*.png", r"passed over 1 file \(.png\), no text: picture.png"),
    ],
)
def test_an_input_without_files_is_named_with_its_setting(corpus: str, name: str, reason: str) -> None:
    with pytest.raises(DataError, match=f"^corpus.uri: .*: {reason}; name an existing file, folder or glob$"):
        paths(corpus.removesuffix("corpus") + name)


def test_an_entry_changes_with_its_file(corpus: str) -> None:
    before = list_inputs(join(corpus, "b.txt"), refuse, "corpus.uri").entries
    storage.put(join(corpus, "b.txt"), b"other")
    assert list_inputs(join(corpus, "b.txt"), refuse, "corpus.uri").entries != before


def test_an_entry_can_be_read_and_has_its_size(corpus: str) -> None:
    entries = list_inputs(corpus, refuse, "corpus.uri").entries
    assert [storage.read_bytes(entry.uri).decode() for entry in entries] == paths(corpus)
    assert [entry.size for entry in entries] == [len(entry.path) for entry in entries]


def test_all_files_of_a_folder_are_those_that_are_hidden_too(corpus: str) -> None:
    assert [entry.path for entry in storage.list_files(corpus)] == sorted([*FILES, "_g.txt", ".h.txt"])
    assert storage.list_files(join(corpus, "none")) == []


def test_a_file_is_listed_with_the_time_it_was_written(place: str) -> None:
    storage.put(join(place, "x.txt"), b"content")
    (entry,) = storage.list_files(place)
    assert entry.modified.utcoffset() == timedelta(0)
    assert abs(entry.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_names_are_those_of_files_right_in_a_folder(corpus: str) -> None:
    assert storage.list_names(corpus) == [".h.txt", "Z.txt", "_g.txt", "a.md", "b.txt", "picture.png"]
    assert storage.list_names(join(corpus, "none")) == []


def test_a_folder_is_no_file(corpus: str) -> None:
    assert (storage.exists(corpus), storage.exists(join(corpus, "b.txt"))) == (False, True)
    assert not storage.exists(join(corpus, "b.tx"))


@pytest.mark.parametrize("content", [b"", b"content", bytes(range(256)) * 8192])
def test_what_was_put_is_read_back(place: str, content: bytes) -> None:
    uri = join(place, "new", "folder", "part")
    storage.put(uri, content)
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == content


@pytest.mark.parametrize("name", ["a b+c%20&d=é?#.txt", "ü/日本.txt", "~x'\"(1).txt"])
def test_a_name_may_have_any_characters(place: str, name: str) -> None:
    storage.put(join(place, name), b"content")
    assert paths(place) == [name]
    assert storage.read_bytes(list_inputs(place, refuse, "corpus.uri").entries[0].uri) == b"content"


@pytest.fixture(scope="module")
def some_bytes() -> bytes:
    """More than is read at once."""
    return b"".join(number.to_bytes(4) for number in range(6 * 2**18 + 1))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6 * 2**20 + 10), st.integers(0, 2**21)), max_size=6))
def test_reads_from_anywhere_give_the_bytes_that_are_there(
    place: str, some_bytes: bytes, reads: list[tuple[int, int]]
) -> None:
    storage.put_if_absent(join(place, "x"), some_bytes)
    with storage.open_input(join(place, "x")) as file:
        assert file.seek(0, 2) == len(some_bytes)
        pieces = [(file.seek(start), file.read(count)) for start, count in reads]
    assert pieces == [(start, some_bytes[start : start + count]) for start, count in reads]


def test_a_file_that_isnt_there_is_a_data_error_with_a_remedy(place: str) -> None:
    with pytest.raises(DataError, match=f"^{place}/none: no such file; check its address, or create it$"):
        storage.read_bytes(join(place, "none"))


def test_putting_again_what_stands_there_is_success(place: str) -> None:
    wins = [storage.put_if_absent(join(place, "x"), content) for content in (b"one", b"one", b"two")]
    assert wins == [True, True, False]
    assert storage.read_bytes(join(place, "x")) == b"one"


@pytest.mark.parametrize("size", [4, MORE_THAN_A_PART])
def test_losing_to_one_that_published_meanwhile_leaves_its_file(place: str, size: int) -> None:
    uri = join(place, "answers.parquet")

    def write(file: BinaryIO) -> None:
        file.write(bytes(size))
        storage.put(uri, b"theirs")

    assert storage.publish(uri, write) is False
    assert storage.read_bytes(uri) == b"theirs"
    assert (storage.list_names(place), storage.list_unfinished(place)) == (["answers.parquet"], [])


def test_a_file_that_is_there_is_not_written_again(place: str) -> None:
    storage.put(join(place, "x"), b"first")
    assert storage.publish(join(place, "x"), lambda file: file.write(b"second")) is False
    assert storage.read_bytes(join(place, "x")) == b"first"


@pytest.mark.parametrize("pieces", [[], [b"small"], PARTS], ids=["nothing", "little", "much"])
def test_what_is_published_is_what_was_written(place: str, pieces: list[bytes]) -> None:
    assert storage.publish(join(place, "x"), lambda file: [file.write(piece) for piece in pieces])
    assert storage.read_bytes(join(place, "x")) == b"".join(pieces)


@pytest.mark.parametrize("size", [4, MORE_THAN_A_PART])
def test_a_file_isnt_seen_before_it_is_whole(place: str, size: int) -> None:
    uri = join(place, "answers.parquet")
    seen: list[object] = []
    assert storage.publish(uri, lambda file: [file.write(bytes(size)), seen.append(look(place))])
    assert seen == [[]]
    assert look(place) == ["answers.parquet"]


def look(place: str) -> list[str]:
    return [name for name in storage.list_names(place) if not name.startswith("_")]


@pytest.mark.parametrize("size", [4, MORE_THAN_A_PART])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, DataError])
def test_a_writer_that_fails_leaves_nothing(place: str, size: int, failure: type[BaseException]) -> None:
    def write(file: BinaryIO) -> None:
        file.write(bytes(size))
        raise failure

    with pytest.raises(failure):
        storage.publish(join(place, "answers.parquet"), write)
    assert (storage.list_names(place), storage.list_unfinished(place)) == ([], [])


@pytest.mark.usefixtures("real_server")
def test_a_write_that_goes_on_is_listed_as_unfinished_under_its_own_name(place: str) -> None:
    uri = join(place, "run", "x.txt")
    seen: list[storage.Unfinished] = []
    storage.publish(
        uri, lambda file: [file.write(bytes(MORE_THAN_A_PART)), seen.extend(storage.list_unfinished(place))]
    )
    assert [unfinished.uri for unfinished in seen] == [uri]
    assert abs(seen[0].started - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.usefixtures("real_server")
def test_a_write_that_is_swept_before_it_ends_puts_nothing(place: str) -> None:
    uri = join(place, "x")

    def write(file: BinaryIO) -> None:
        file.write(bytes(MORE_THAN_A_PART))
        storage.sweep_unfinished(uri)

    with pytest.raises(Exception, match=f"^{uri}: .*; run the job again$"):
        storage.publish(uri, write)
    assert (storage.list_names(place), storage.list_unfinished(place)) == ([], [])


@pytest.mark.usefixtures("real_server")
def test_a_write_that_is_swept_by_one_that_published_has_lost(place: str) -> None:
    uri = join(place, "x")

    def write(file: BinaryIO) -> None:
        file.write(bytes(MORE_THAN_A_PART))
        storage.put(uri, b"theirs")
        storage.sweep_unfinished(uri)

    assert storage.publish(uri, write) is False
    assert storage.read_bytes(uri) == b"theirs"


def test_a_sweep_leaves_writes_to_other_names(place: str) -> None:
    def write(file: BinaryIO) -> None:
        file.write(bytes(MORE_THAN_A_PART))
        storage.sweep_unfinished(join(place, "x"))

    assert storage.publish(join(place, "x2"), write)
    assert storage.list_names(place) == ["x2"]


def test_deleting_what_is_gone_is_fine(place: str) -> None:
    storage.put(join(place, "x"), b"")
    storage.delete([join(place, "none"), join(place, "x")])
    storage.delete([])
    assert storage.list_names(place) == []


def test_deleting_one_runs_folder_leaves_its_neighbours(place: str) -> None:
    storage.put(join(place, "_staging", "run", "part"), b"")
    storage.put(join(place, "_staging", "run2", "part"), b"")
    storage.delete_folder(join(place, "_staging", "run"))
    storage.delete_folder(join(place, "_staging", "none"))
    assert [entry.path for entry in storage.list_files(place)] == ["_staging/run2/part"]


def test_a_place_that_can_be_written_is_left_as_it_was(place: str) -> None:
    storage.check_writable(join(place, "out"), "output.uri")
    assert (storage.list_files(place), storage.list_unfinished(place)) == ([], [])


def test_an_absolute_uri_stays_as_it_is(place: str) -> None:
    assert [storage.absolute(place), storage.absolute(place + "/")] == [place, place]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("gs://bucket/x", "only local paths and s3:// are supported; name one of those"),
        ("s3:///x", "names no bucket; write s3://BUCKET/FOLDER"),
    ],
)
@pytest.mark.parametrize("use", [storage.absolute, storage.exists, storage.list_names, storage.read_bytes])
def test_an_address_of_no_place_is_refused(use: Callable[[str], object], uri: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"^{uri}: {reason}$"):
        use(uri)
