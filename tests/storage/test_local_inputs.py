"""Which files of a disk an input stands for, and that no other file is ever read."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragjob import storage
from ragjob.errors import DataError, DependencyError, SettingsError
from ragjob.storage import Entry, Listing

NOBODY = 65534
SECRET = b"secret"


def refuse(path: str) -> str | None:
    return None if path.endswith(".txt") else "no text"


def listing(uri: object) -> Listing:
    return storage.list_inputs(str(uri), refuse, "corpus.uri")


def paths(uri: object) -> list[str]:
    return [entry.path for entry in listing(uri).entries]


def passed_over(uri: object) -> dict[str, list[str]]:
    """The first paths that are passed over, by reason."""
    return {files.reason: files.first for files in listing(uri).passed_over}


def read(entry: Entry) -> bytes:
    return storage.read_bytes(entry.uri, entry.tag)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with `a.txt` and `sub/b.txt`, beside a folder `outside` with a secret."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.txt").write_bytes(SECRET)
    (tmp_path / "corpus" / "sub").mkdir(parents=True)
    (tmp_path / "corpus" / "a.txt").write_bytes(b"a")
    (tmp_path / "corpus" / "sub" / "b.txt").write_bytes(b"b")
    return tmp_path / "corpus"


@pytest.mark.parametrize(
    "target", ["../outside/b.txt", "../outside", "/etc/passwd", "/proc/self/environ", "..", "sub/hop/b.txt"]
)
def test_a_link_that_leaves_the_folder_is_passed_over_and_named(corpus: Path, target: str) -> None:
    (corpus / "sub" / "hop").symlink_to("../../outside")
    (corpus / "x.txt").symlink_to(target)
    assert paths(corpus) == ["a.txt", "sub/b.txt"]
    assert [files.first for files in listing(corpus).passed_over] == [["sub/hop"], ["x.txt"]]


def test_a_link_that_leads_nowhere_is_passed_over_and_named(corpus: Path) -> None:
    (corpus / "gone.txt").symlink_to("none.txt")
    (corpus / "round.txt").symlink_to("round.txt")
    assert passed_over(corpus) == {"link that leads nowhere": ["gone.txt", "round.txt"]}


def test_the_links_of_a_configmap_volume_are_read_by_the_names_that_its_users_see(tmp_path: Path) -> None:
    (tmp_path / "..2026_01_01" / "sub").mkdir(parents=True)
    (tmp_path / "..2026_01_01" / "a.txt").write_bytes(b"a")
    (tmp_path / "..2026_01_01" / "sub" / "b.txt").write_bytes(b"b")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a.txt").symlink_to("..data/a.txt")
    (tmp_path / "sub").symlink_to("..data/sub")
    inputs = listing(tmp_path)
    assert [(entry.path, read(entry), entry.listed_uri) for entry in inputs.entries] == [
        ("a.txt", b"a", f"{tmp_path}/a.txt"),
        ("sub/b.txt", b"b", f"{tmp_path}/sub/b.txt"),
    ]
    assert passed_over(tmp_path) == {"name begins with . or _": ["..data"]}


def test_a_file_with_several_names_is_read_once_by_its_own(corpus: Path) -> None:
    (corpus / "0.txt").symlink_to("a.txt")
    (corpus / "0").symlink_to("sub")
    assert paths(corpus) == ["a.txt", "sub/b.txt"]
    assert [(files.reason, files.first) for files in listing(corpus).passed_over] == [
        ("link to something listed under another name", ["0"]),
        ("link to something listed under another name", ["0.txt"]),
    ]


def test_a_link_gives_a_file_a_name_that_is_read(corpus: Path) -> None:
    (corpus / "notes.bin").write_bytes(b"notes")
    (corpus / "notes.txt").symlink_to("notes.bin")
    assert [read(entry) for entry in listing(corpus).entries] == [b"a", b"notes", b"b"]
    assert passed_over(corpus) == {}


def test_loops_of_links_end(corpus: Path) -> None:
    (corpus / "sub" / "up").symlink_to("..")
    (corpus / "sub" / "self").symlink_to(".")
    (corpus / "other").mkdir()
    (corpus / "other" / "to").symlink_to("../sub")
    (corpus / "sub" / "to").symlink_to("../other")
    assert paths(corpus) == ["a.txt", "sub/b.txt"]


@pytest.mark.parametrize(
    ("name", "path", "listed"),
    [
        ("link", "sub/b.txt", "link/sub/b.txt"),
        ("link/*/b.txt", "sub/b.txt", "link/sub/b.txt"),
        ("b.txt", "b.txt", "b.txt"),
    ],
)
def test_a_link_that_the_user_names_is_followed(corpus: Path, name: str, path: str, listed: str) -> None:
    (corpus.parent / "link").symlink_to(corpus)
    (corpus.parent / "b.txt").symlink_to(corpus / "sub" / "b.txt")
    *_, last = listing(corpus.parent / name).entries
    assert (last.path, last.listed_uri, read(last)) == (path, f"{corpus.parent}/{listed}", b"b")


def test_a_glob_takes_a_link_by_its_own_name(corpus: Path) -> None:
    (corpus / "current").symlink_to("sub")
    assert paths(f"{corpus}/**/current/*.txt") == ["current/b.txt"]


NAMES = st.sampled_from(["a", "b.txt", "c.txt", "_d", ".e.txt"])
PLACES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = PLACES | st.sampled_from(["..", "../..", "../outside", "../../outside", ".", "/etc", "../outside/b.txt"])


@given(st.dictionaries(PLACES, st.none() | TARGETS, max_size=12))
def test_of_any_tree_of_links_each_file_inside_is_read_once_and_none_outside(tree: dict[str, str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.path.realpath(folder), "corpus")
        root.mkdir()
        (root / "sure.txt").write_bytes(b"inside")
        (root.parent / "outside").mkdir()
        (root.parent / "outside" / "b.txt").write_bytes(SECRET)
        [plant(root / place, target) for place, target in tree.items()]
        entries = listing(root).entries
        assert {read(entry) for entry in entries} == {b"inside"}
        assert len({entry.uri for entry in entries}) == len(entries)
        assert {entry.path for entry in entries} >= seen(root)


def plant(place: Path, target: str | None) -> None:
    """Put a file, or a link to `target`, where a link leads to no parent and nothing stands in its way."""
    if any(part.is_symlink() or part.is_file() for part in [place, *place.parents]) or place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if target is None:
        place.write_bytes(b"inside")
    else:
        place.symlink_to(target)


def seen(root: Path) -> set[str]:
    """Paths of the files that are no links, under none, not hidden, and end in `.txt`."""
    files = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    shown = (file.relative_to(root) for file in files if file.suffix == ".txt" and not file.is_symlink())
    return {path.as_posix() for path in shown if not any(part.startswith((".", "_")) for part in path.parts)}


# Opening


def with_a_link(file: Path, secret: Path) -> None:
    file.unlink()
    file.symlink_to(secret)


def with_a_link_to_a_folder(file: Path, secret: Path) -> None:
    file.unlink()
    file.parent.rmdir()
    file.parent.symlink_to(secret.parent)


def with_a_fifo(file: Path, _: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def with_another_file(file: Path, _: Path) -> None:
    file.write_bytes(SECRET)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("swap", [with_a_link, with_a_link_to_a_folder, with_a_fifo, with_another_file])
def test_a_file_that_was_swapped_since_it_was_listed_is_never_read(
    corpus: Path, swap: Callable[[Path, Path], None]
) -> None:
    file, secret = corpus / "sub" / "b.txt", corpus.parent / "outside" / "b.txt"
    (entry,) = listing(file.parent).entries
    os.utime(secret, ns=(0, int(entry.tag)))  # so that the tags are equal
    swap(file, secret)
    with pytest.raises(DataError, match=f"^{file}: was changed while the job was running; leave inputs alone"):
        read(entry)


def test_only_regular_files_are_read(corpus: Path) -> None:
    os.mkfifo(corpus / "fifo.txt")
    assert passed_over(corpus) == {"not a regular file": ["fifo.txt"]}
    with pytest.raises(DataError, match=r"^corpus.uri: .*, not a regular file: fifo.txt; name an existing file"):
        listing(corpus / "fifo.txt")


@pytest.mark.parametrize("name", ["status", "*", "./environ"])
def test_what_the_kernel_says_of_a_process_is_no_input(name: str) -> None:
    with pytest.raises((DataError, DependencyError), match=r"^corpus.uri: "):
        storage.list_inputs(f"/proc/self/{name}", lambda _: None, "corpus.uri")


# Folders and names


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may list."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Whoever runs the tests: no rights beyond those that a folder gives."""
    before = os.geteuid()
    os.seteuid(before or NOBODY)
    yield
    os.seteuid(before)


@pytest.fixture
def locked(open_folder: Path) -> Path:
    """A corpus with a subfolder that its owner alone may list, and the owner can't."""
    (open_folder / "locked").mkdir()
    (open_folder / "a.txt").write_bytes(b"a")
    (open_folder / "locked").chmod(0)
    return open_folder


def test_a_subfolder_that_cant_be_listed_is_named(locked: Path, as_nobody: None) -> None:
    with pytest.raises(DependencyError, match=f"^corpus.uri: {locked}/locked: Permission denied; let this user list"):
        listing(locked)


def test_a_glob_needs_no_rights_where_it_doesnt_lead(locked: Path, as_nobody: None) -> None:
    assert paths(f"{locked}/*.txt") == ["a.txt"]


NOT_UTF8 = [b"caf\xe9.txt", b"\xff\xfe.txt", b"a\xf0\x9f.txt"]


@pytest.mark.parametrize("name", NOT_UTF8)
def test_a_file_whose_name_isnt_utf8_is_read_under_an_escaped_name(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"content")
    (entry,) = listing(tmp_path).entries
    assert entry.path == name.decode("utf-8", "backslashreplace")
    assert storage.read_bytes(entry.uri.encode().decode(), entry.tag) == b"content"


def test_two_names_that_are_escaped_alike_are_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.txt")).write_bytes(b"one")
    (tmp_path / r"\xe9.txt").write_bytes(b"two")
    with pytest.raises(DataError, match=r"^corpus.uri: two files are called \\xe9.txt; rename one$"):
        listing(tmp_path)


@given(st.binary(min_size=1, max_size=20).filter(lambda name: not {0, ord("/")} & {*name}))
def test_a_file_of_any_name_is_listed_and_read(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(os.fsdecode(os.fsencode(folder) + b"/x" + name))
        file.write_bytes(b"content")
        (entry,) = storage.list_inputs(folder, lambda _: None, "corpus.uri").entries
        assert storage.read_bytes(entry.uri.encode().decode(), entry.tag) == b"content"


@pytest.mark.parametrize("name", ["a b", "a%20b", "a?b#c", "é"])
def test_an_encoded_uri_is_decoded(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.txt").write_bytes(b"a")
    assert paths((tmp_path / name).as_uri()) == paths(tmp_path / name) == ["a.txt"]
    assert storage.absolute((tmp_path / name).as_uri()) == f"{tmp_path}/{name}"


@pytest.mark.parametrize("uri", ["file:///a%00b", "~nobody-of-this-name/x"])
def test_a_uri_that_is_no_path_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError, match=r"^corpus.uri: .*; (remove it|write the full path)$"):
        listing(uri)
