"""Which rows of a segment pass a filter, by the metadata of their chunks."""

import json
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ragjob.ledger.passages import Numbers, Passage, Passages
from ragjob.retrieval.where import Condition, keys_of

CACHED_BYTES = 64 * 2**20  # of selections, beside the last one
ENTRY_BYTES = 1024  # of a selection, beside its arrays


class Selection:
    """The rows of which at least one chunk passes a condition.

    `rows` are their numbers, ascending. Of each, the first chunk that passes, in the order of ids, is its passage.
    """

    def __init__(self, passages: Passages, passing: Numbers, rows: Numbers) -> None:
        """`passing` are the places in `passages.members` of chunks that pass, ascending, and `rows` their rows."""
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        self.rows: Numbers = rows[starts]
        self._passages = passages
        self._firsts = passages.members[passing[starts]]
        self._equals = np.diff(starts, append=len(passing)).astype(np.int32)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return ENTRY_BYTES + self.rows.nbytes + self._firsts.nbytes + self._equals.nbytes

    def chunk_id(self, row: int) -> str:
        """Id of the first chunk of a row that passes."""
        return self._passages.chunk_id_at(int(self._firsts[self._number(row)]))

    def passage(self, row: int) -> Passage:
        """The first chunk of a row that passes; its `equals` counts those that do."""
        number = self._number(row)
        return self._passages.passage_at(int(self._firsts[number]), int(self._equals[number]))

    def _number(self, row: int) -> int:
        return int(np.searchsorted(self.rows, row))


class Filters:
    """The metadata of a segment's chunks under the names that filters ask for. Any number of threads may select."""

    def __init__(self, passages: Passages, names: Iterable[str]) -> None:
        self._passages = passages
        self._chunks = _by_key(passages, list(names))
        self._rows = np.repeat(np.arange(len(passages), dtype=np.int32), np.diff(passages.offsets))
        self._cached: OrderedDict[Condition, Selection] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    def select(self, condition: Condition) -> Selection:
        """The rows that pass."""
        with self._lock:
            if condition in self._cached:
                self._cached.move_to_end(condition)
                return self._cached[condition]
        passing = self._passing(condition)
        selection = Selection(self._passages, passing, self._rows[passing])
        with self._lock:
            self._keep(condition, selection)
        return selection

    def _passing(self, condition: Condition) -> Numbers:
        passing: Numbers | None = None
        for name, keys in condition.keys:
            places = self._chunks[name].having(keys)
            passing = places if passing is None else np.intersect1d(passing, places, assume_unique=True)
        return np.arange(len(self._passages.members)) if passing is None else passing

    def _keep(self, condition: Condition, selection: Selection) -> None:
        if condition in self._cached:  # another thread was faster
            return
        while self._cached and self._cached_bytes + selection.nbytes > CACHED_BYTES:
            self._cached_bytes -= self._cached.popitem(last=False)[1].nbytes
        self._cached[condition] = selection
        self._cached_bytes += selection.nbytes


class _ByKey:
    """For one name, the places in `Passages.members` of the chunks that have each key."""

    def __init__(self, keys: Sequence[pa.StringArray], places: Sequence[Numbers]) -> None:
        coded = pa.chunked_array(keys, pa.string()).combine_chunks().dictionary_encode()
        order = pc.sort_indices(coded.dictionary)
        ranks = np.empty(len(order), np.int32)
        ranks[order.to_numpy()] = np.arange(len(order))
        codes, self._places = ranks[coded.indices.to_numpy()], np.concatenate(places)
        self._keys = coded.dictionary.take(order)
        self._places = self._places[np.lexsort((self._places, codes))]
        self._starts = np.append(0, np.cumsum(np.bincount(codes, minlength=len(order))))

    def having(self, keys: Iterable[str]) -> Numbers:
        """Places of the chunks with one of these keys, ascending."""
        places = np.concatenate([self._at(key) for key in keys])
        places.sort()
        return places[np.diff(places, prepend=-1) > 0]  # a list may have several of them

    def _at(self, key: str) -> Numbers:
        number = bisect_left(self._keys, key, key=pa.StringScalar.as_py)
        if number == len(self._keys) or self._keys[number].as_py() != key:
            return self._places[:0]
        return self._places[self._starts[number] : self._starts[number + 1]]


def _by_key(passages: Passages, names: list[str]) -> dict[str, _ByKey]:
    """The chunks by the keys of their metadata. Of equal texts of metadata in one part, one is parsed."""
    place_of = np.empty(len(passages.members), np.int32)
    place_of[passages.members] = np.arange(len(place_of))
    keys: dict[str, list[pa.StringArray]] = {name: [] for name in names}
    places: dict[str, list[Numbers]] = {name: [] for name in names}
    start = 0
    for column in passages.metadata() if names else ():
        coded = column.fill_null("{}").dictionary_encode()
        values = [json.loads(text) for text in coded.dictionary.to_pylist()]
        for name in names:
            distinct = pa.array([keys_of(value.get(name)) for value in values], pa.list_(pa.string()))
            of_chunks = distinct.take(coded.indices)
            keys[name].append(of_chunks.flatten())
            places[name].append(place_of[start + pc.list_parent_indices(of_chunks).to_numpy()])
        start += len(column)
    return {name: _ByKey(keys[name], places[name]) for name in names}
