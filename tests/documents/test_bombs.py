"""Files of few bytes that stand for many: each is one error, and takes little memory."""

import gzip
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import parquet

MOST_BYTES = 400_000_000  # above what a harmless file takes
# Plans and reads a file of prompts in units of 256, and says how it ended and its peak in bytes.
READ = """
import sys
from pathlib import Path
from ragjob.documents.inputs import list_prompts
from ragjob.documents.settings import Prompts
from ragjob.documents.units import plan_slices, scan_prompts
from ragjob.errors import DataError
from ragjob.stages.read import ReadPrompts

try:
    inputs = scan_prompts(list_prompts(sys.argv[1]).entries, Prompts())
    read = ReadPrompts(Prompts(), inputs.passed)
    for unit in plan_slices(inputs.segments, 256, 2**62):
        read(unit)
    print("read")
except DataError as error:
    print("refused", sys.argv[1] in error.message)
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def read(file: Path) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(file)], check=True, capture_output=True, text=True, timeout=120
    )
    outcome, peak = done.stdout.splitlines()
    return outcome, int(peak.split()[1]) * 1024


@pytest.fixture(scope="session")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The peak of reading one prompt from Parquet, which loads the most libraries."""
    file = tmp_path_factory.mktemp("harmless") / "x.parquet"
    file.write_bytes(parquet(pa.table({"prompt": ["why?"]})))
    return read(file)[1]


def repeated(count: int) -> pa.Array:
    """A long text so many times, in the memory that one takes."""
    return pa.array(["x" * 1_000_000]).dictionary_encode().take(pa.array([0] * count))


def compressed() -> bytes:
    content = io.BytesIO()
    table = pa.table({"prompt": repeated(60).dictionary_decode()})
    pq.write_table(table, content, use_dictionary=False, compression="zstd")
    return content.getvalue()


def packed(text: bytes) -> bytes:
    """About 400 MB of a text, packed piece by piece."""
    return gzip.compress(text * (1_000_000 // len(text))) * 400


BOMBS: dict[str, Callable[[], bytes]] = {
    "prompt.parquet": lambda: parquet(pa.table({"prompt": repeated(600)})),
    "passed.parquet": lambda: parquet(pa.table({"prompt": ["why?"] * 600, "x": repeated(600)})),
    "compressed.parquet": compressed,
    "rows.parquet": lambda: parquet(pa.table({"prompt": pa.nulls(20_000_000, pa.string())}), rows=20_000_000),
    "keys.jsonl": lambda: b"".join(b'{"k%d": 1}\n' % number for number in range(8000)),
    "columns.csv": lambda: b",".join(b"%d" % number for number in range(1_000_000)) + b"\n",
    "nested.json": lambda: b'{"prompt": ' + b"[" * 1_000_000,
    "gzip.jsonl.gz": lambda: packed(b'{"prompt": "why?"}\n'),
    "gzip.csv": lambda: packed(b"why?\n"),
    "gzip.txt.gz": lambda: packed(b"why?\n"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_name_and_takes_little_memory(tmp_path: Path, harmless: int, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name]())
    outcome, peak = read(tmp_path / name)
    assert outcome == "refused True"
    assert peak - harmless < MOST_BYTES


def test_objects_of_ever_other_keys_take_little_memory(tmp_path: Path, harmless: int) -> None:
    lines = (b'{"prompt": "why?", "x": {"k%d": 1}}\n' % number for number in range(8000))
    (tmp_path / "x.jsonl").write_bytes(b"".join(lines))
    outcome, peak = read(tmp_path / "x.jsonl")
    assert outcome == "read"
    assert peak - harmless < MOST_BYTES
