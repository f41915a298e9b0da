"""Files of the ledger, and what reading them leaves behind."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from ragjob.ledger.files import to_parquet

LEDGER = "from ragjob.ledger.files import read_parquet as read"
CORPUS = """
from ragjob.documents.readers.parquet import Parquet
read = lambda path: Parquet().decode(open(path, "rb"), 0, None)
"""


@pytest.mark.parametrize("reader", [LEDGER, CORPUS])
def test_a_parquet_file_is_read_without_threads_that_could_outlive_the_interpreter(reader: str, tmp_path: Path) -> None:
    columns = {str(number): ["text"] * 10_000 for number in range(8)} | {"nested": [["text"]] * 10_000}
    (tmp_path / "file").write_bytes(to_parquet(pa.table(columns)))
    code = f"""
import sys
from pathlib import Path
{reader}
def threads():
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if "jemalloc" not in name]  # the allocator's, which touch no object
before = threads()
assert read(sys.argv[1]).num_rows == 10_000
print(len(threads()) - len(before))
"""
    command = [sys.executable, "-c", code, tmp_path / "file"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"
