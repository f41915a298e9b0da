"""Build a lexical index in a process of its own: `python -m ragjob.retrieval.lexical.build LANGUAGE FILE PASSAGES...`.

The file is an Arrow file with one row of lists, made for `index.LexicalIndex`: the `terms`; where the postings of each
`start`, with the end of the last; of each posting the row and the BM25 score that the term adds there. Postings lie
on disk while they are sorted: only the terms, and a few numbers of each row, are in memory. Equal passages give equal
files.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ragjob.errors import DependencyError
from ragjob.ledger import schema
from ragjob.ledger.passages import Numbers, Passages, open_passages
from ragjob.retrieval.lexical.tokens import Tokenizer

# Of BM25 as Lucene has it, with the lengths as they are: Kamphuis et al., ECIR 2020, "Which BM25 Do You Mean?".
K1, B = 1.5, 0.75
BLOCK_ROWS = 8192  # whose postings are sorted at once
INDEXED = [schema.TITLE, schema.HEADING, schema.TEXT]
SCRATCH = ".lexical-"  # begins the name of a folder with postings
FAILED = 3  # exit code for a disk that fails


def build_apart(paths: list[Path], language: str, target: Path) -> None:
    """Build the index of a segment's passages, whose files are at `paths`, in a process of its own.

    So the memory that it takes goes with it. Raises `DependencyError` when the disk fails.
    """
    command = [sys.executable, "-P", "-m", __name__, language, *map(str, [target, *paths])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:  # what it had on disk would take the room of the next one; the caller has the folder to itself
        for left in target.parent.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        target.unlink(missing_ok=True)
    if ended.returncode in (FAILED, -signal.SIGBUS):  # the signal is what a mapped file on a full disk gives
        reason = ended.stderr.strip() or "no space left"
        raise DependencyError(
            f"index.cache: can't build the lexical index in {target.parent}: {reason}; name a writable folder with "
            "enough space"
        )
    if ended.returncode == -signal.SIGKILL:
        raise DependencyError(
            "the process that builds the lexical index was killed, perhaps because memory ran out; run the job again, "
            "or give it more memory"
        )
    if ended.returncode:
        raise RuntimeError(f"building the lexical index ended with exit code {ended.returncode}: {ended.stderr}")


def build(passages: Passages, language: str, target: Path) -> None:
    """Write the index of all rows to `target`."""
    with TemporaryDirectory(prefix=SCRATCH, dir=target.parent) as folder, TemporaryFile(dir=folder) as staged:
        counts = _Counts(np.zeros(len(passages), np.int32))
        blocks = 0
        for rows, texts in _texts(passages):
            _stage(counts, Tokenizer(language), rows, texts, staged)
            blocks += 1
        starts = np.concatenate([[0], np.cumsum(counts.rows)])
        rows, scores = (_scratch(Path(folder) / name, starts[-1], kind) for name, kind in _POSTINGS.items())
        heads = starts[:-1].copy()
        staged.seek(0)
        for _ in range(blocks):
            _place(counts, heads, staged, rows, scores)
        _write(target, list(counts.terms), starts, rows, scores)


_POSTINGS = {"rows": np.int32, "scores": np.float32}


@dataclass
class _Counts:
    """What BM25 counts: terms of each row; the terms, numbered from 0; and in how many rows each of them is."""

    lengths: npt.NDArray[np.int32]
    terms: dict[str, int] = field(default_factory=dict)
    rows: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))


def _texts(passages: Passages) -> Iterator[tuple[Numbers, list[str]]]:
    """What is indexed of all rows, `BLOCK_ROWS` or a few more at once."""
    numbers: list[Numbers] = []
    texts: list[str] = []
    for rows, columns in passages.blocks(INDEXED):
        numbers.append(rows)
        texts += ["\n".join(filter(None, row.values())) for row in columns.to_pylist()]
        if len(texts) >= BLOCK_ROWS:
            yield np.concatenate(numbers), texts
            numbers, texts = [], []
    if texts:
        yield np.concatenate(numbers), texts


def _stage(counts: _Counts, tokenizer: Tokenizer, rows: Numbers, texts: list[str], staged: IO[bytes]) -> None:
    """Count the terms of rows, and stage their postings by term: its number, the row, and how often it is there."""
    tokenized = [tokenizer.terms(text) for text in texts]
    lengths = np.fromiter(map(len, tokenized), np.int64, len(tokenized))
    counts.lengths[rows] = lengths
    known = counts.terms
    numbers = np.fromiter((known.setdefault(term, len(known)) for term in chain.from_iterable(tokenized)), np.int64)
    pairs, times = np.unique(numbers * len(texts) + np.repeat(np.arange(len(texts)), lengths), return_counts=True)
    terms, places = np.divmod(pairs, len(texts))
    counts.rows = np.bincount(terms, minlength=len(known)) + np.pad(counts.rows, (0, len(known) - len(counts.rows)))
    for column in (terms, rows[places], times):
        np.save(staged, column.astype(np.int32))


def _place(counts: _Counts, heads: Numbers, staged: IO[bytes], rows: np.ndarray, scores: np.ndarray) -> None:
    """Put the next staged block's postings where `heads` has the next of each term."""
    terms, numbers, times = (np.load(staged) for _ in range(3))
    firsts = np.flatnonzero(np.diff(terms, prepend=-1))
    sizes = np.diff(firsts, append=len(terms))
    places = heads[terms] + np.arange(len(terms)) - np.repeat(firsts, sizes)
    heads[terms[firsts]] += sizes
    rows[places] = numbers
    scores[places] = _bm25(counts, terms, counts.lengths[numbers], times)


def _bm25(counts: _Counts, terms: np.ndarray, lengths: np.ndarray, times: np.ndarray) -> np.ndarray:
    there = counts.rows[terms]
    rarity = np.log(1 + (len(counts.lengths) - there + 0.5) / (there + 0.5))
    return np.asarray(rarity * times / (K1 * (1 - B + B * lengths / counts.lengths.mean()) + times))


def _scratch(file: Path, length: int, kind: type) -> np.ndarray:
    """An array on disk, which takes no memory that others need."""
    return np.memmap(file, kind, "w+", shape=(int(length),)) if length else np.zeros(0, kind)


def _write(target: Path, terms: list[str], starts: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
    lists = {"terms": pa.array(terms, pa.large_string()), "starts": starts, "rows": rows, "scores": scores}
    batch = pa.RecordBatch.from_pydict({name: _one_list(values) for name, values in lists.items()})
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _one_list(values: pa.Array | np.ndarray) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(np.asarray(values))
    return pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array)


if __name__ == "__main__":
    try:
        build(open_passages(*map(Path, sys.argv[3:])), sys.argv[1], Path(sys.argv[2]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(FAILED)
