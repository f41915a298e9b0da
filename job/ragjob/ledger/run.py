"""Runs: staged parts of answers, and the one file that they are published as."""

import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ragjob import storage
from ragjob.errors import DataError, DependencyError
from ragjob.ledger import schema
from ragjob.ledger.files import TAKEN_UP, read_if_there, read_parquet, to_json, to_parquet
from ragjob.ledger.manifests import CLAIM_FORMAT, RUN_MANIFEST_FORMAT, DamagedError, ManifestKind
from ragjob.settings import Name

Mask = npt.NDArray[np.bool_]

WINDOW = 4096  # prompts that publishing holds at once
_IDENTITY = b"ragjob.identity"
_CLAIM = "identity.json"
_PART = re.compile(r"part-(\d{9,18})-(\d{9,18})-[0-9a-f]{24}\.parquet")  # first and last position, digest


@dataclass(frozen=True)
class RunManifest:
    """A published run, as counted in its `answers.parquet`."""

    run_id: Name
    identity: str
    rows: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    format: int = RUN_MANIFEST_FORMAT


@dataclass(frozen=True)
class Claim:
    """What the first attempt at a run says about it. Files of this kind are of format 1, and have no number yet."""

    identity: str
    index_version: Name


_MANIFESTS = ManifestKind(RunManifest, RUN_MANIFEST_FORMAT, "output.uri", "choose another run_id or output.uri")
_CLAIMS = ManifestKind(Claim, CLAIM_FORMAT, "run_id", "choose another run_id or output.uri")


class RunLedger:
    """One run below `output.uri`: parts in `_staging`, then one `answers.parquet` that appears whole."""

    def __init__(self, uri: str, run_id: str, identity: str) -> None:
        self.output = output = storage.absolute(uri)
        self._run = storage.join(output, run_id)
        self._staging = storage.join(staging(output), run_id)
        self.run_id = run_id
        self._identity = identity
        self.answers = _answers(output, run_id)

    def published(self) -> RunManifest | None:
        """The manifest, written anew if it is missing or damaged, or None while the run isn't published.

        Raises `DataError` when a run of that name was published with other settings, or by a newer release.
        """
        with storage.naming("output.uri"):
            there = storage.exists(self.answers)
        return self._manifest() if there else None

    @property
    def log_folder(self) -> str:
        """Where each attempt keeps its log."""
        return storage.join(self._run, "_log")

    @property
    def staged_parts(self) -> str:
        """Where the parts are, as a glob."""
        return storage.join(self._staging, "part-*.parquet")

    def claim(self, version: str) -> None:
        """Store the run's identity and its index version before its first part.

        Raises `DataError` if another identity is stored there.
        """
        uri = storage.join(self._staging, _CLAIM)
        if not storage.put_if_absent(uri, to_json(asdict(Claim(self._identity, version)))):
            self._check(_claim(uri, "identity").identity)
        storage.put(storage.join(self._staging, TAKEN_UP), b"")

    def progress(self, total: int) -> tuple[Mask, Mask]:
        """Which of the `total` positions have a staged answer, and which a staged row of either kind."""
        answered, staged = np.zeros(total, np.bool_), np.zeros(total, np.bool_)
        for name in self._parts():
            part = read_parquet(storage.join(self._staging, name), [schema.POSITION, schema.ERROR])
            answered[part.filter(pc.is_null(part[schema.ERROR]))[schema.POSITION].to_numpy()] = True
            staged[part[schema.POSITION].to_numpy()] = True
        return answered, staged

    def write(self, rows: pa.Table) -> None:
        """Stage a block: answers and rows with an error in parts of their own."""
        good = pc.is_null(rows[schema.ERROR])
        for part in (rows.filter(good), rows.filter(pc.invert(good))):
            if part.num_rows:
                content = to_parquet(part)
                ends = pc.min_max(part[schema.POSITION]).as_py()
                positions = f"{ends['min']:09d}-{ends['max']:09d}"
                name = f"part-{positions}-{schema.digest_bytes(content)}.parquet"
                storage.put_if_absent(storage.join(self._staging, name), content)

    def publish(self, total: int, columns: pa.Schema) -> RunManifest:
        """Write `answers.parquet` from the parts, unless it is there by then; losing that race is success."""
        try:
            storage.publish(self.answers, lambda sink: self._merge(sink, total, columns))
        except (DataError, DependencyError):
            if not storage.exists(self.answers):  # else another attempt has published, and swept the parts
                raise
        return self._manifest()

    def errors(self, most: int) -> list[tuple[str, str]]:
        """Ids and errors of the first `most` failed prompts of the published run."""
        return _failed(read_parquet(self.answers, [schema.PROMPT_ID, schema.ERROR]), most)

    def staged_errors(self, most: int) -> list[tuple[str, str]]:
        """The same for the staged parts."""
        names = [storage.join(self._staging, name) for name in self._parts()]
        columns = [schema.PROMPT_ID, schema.ERROR]
        return [error for name in names for error in _failed(read_parquet(name, columns), most)][:most]

    def sweep(self) -> None:
        """Remove the run's staging, and what killed attempts left of writing the answers or their manifest."""
        remove_staging(self._staging)
        for name in ("answers.parquet", "_manifest.json"):
            storage.sweep_unfinished(storage.join(self._run, name))

    def _manifest(self) -> RunManifest:
        """The manifest of a run that is published."""
        uri = storage.join(self._run, "_manifest.json")
        manifest = _read_manifest(uri)
        if manifest is None:
            manifest = self._count()
            with suppress(DependencyError):  # it only saves counting: attempts that sweep at once may take it away
                storage.put(uri, to_json(asdict(manifest)))
        self._check(manifest.identity)
        return manifest

    def _parts(self) -> list[str]:
        return [name for name in storage.list_names(self._staging) if _PART.fullmatch(name)]

    def _check(self, identity: str) -> None:
        if identity != self._identity:
            raise DataError(
                f"run_id: {self.run_id} was started with other settings or inputs; "
                "choose another run_id, or leave it out to have one derived from them"
            )

    def _merge(self, sink: BinaryIO, total: int, columns: pa.Schema) -> None:
        ranges = {name: _positions(name) for name in self._parts()}
        target = columns.with_metadata({_IDENTITY: self._identity.encode()})
        with pq.ParquetWriter(sink, target, compression="zstd") as writer:
            for first in range(0, total, WINDOW):
                last = min(first + WINDOW, total) - 1
                names = [name for name, (low, high) in ranges.items() if low <= last and high >= first]
                writer.write_table(self._window(names, first, last, columns))

    def _window(self, names: list[str], first: int, last: int, columns: pa.Schema) -> pa.Table:
        """Rows of positions first to last: an answer before an error, and the first by part name."""
        tables = [read_parquet(storage.join(self._staging, name)) for name in names]
        if not tables:
            raise DependencyError(f"{self._staging}: no part holds prompts {first} to {last}; run the job again")
        rows = pa.concat_tables(tables, promote_options="permissive")
        rows = rows.filter(pc.is_in(rows[schema.POSITION], pa.array(range(first, last + 1), pa.int64())))
        positions, failed = rows[schema.POSITION].to_numpy(), pc.is_valid(rows[schema.ERROR]).to_numpy()
        order = np.lexsort((failed, positions))  # stable: the first by part name stays first
        rows = rows.take(order[np.flatnonzero(np.diff(positions[order], prepend=-1))])
        if rows.num_rows != last - first + 1:
            lost = last - first + 1 - rows.num_rows
            raise DependencyError(f"{self._staging}: {lost} prompts have no row; run the job again")
        return rows.select(columns.names).cast(columns)

    def _count(self) -> RunManifest:
        rows = read_parquet(self.answers, [schema.ERROR, "prompt_tokens", "completion_tokens"])
        identity = (rows.schema.metadata or {}).get(_IDENTITY, b"").decode()
        self._check(identity)  # before another program's file is taken for a run
        return RunManifest(
            run_id=self.run_id,
            identity=identity,
            rows=rows.num_rows,
            errors=rows.num_rows - rows[schema.ERROR].null_count,
            prompt_tokens=pc.sum(rows["prompt_tokens"]).as_py() or 0,
            completion_tokens=pc.sum(rows["completion_tokens"]).as_py() or 0,
        )


def staging(uri: str) -> str:
    """The folder of `output.uri` that has a folder of parts for each run under way."""
    return storage.join(storage.absolute(uri), "_staging")


def is_published(uri: str, run_id: str) -> bool:
    """Return whether the answers of a run are below `output.uri`."""
    return storage.exists(_answers(uri, run_id))


def claimed_versions(uri: str) -> set[str]:
    """The index versions that unpublished runs below `output.uri` answer from."""
    files = [entry for entry in storage.list_files(staging(uri)) if entry.path.endswith(f"/{_CLAIM}")]
    versions = set()
    for claim in files:
        if not is_published(uri, claim.path.removesuffix(f"/{_CLAIM}")):
            with suppress(storage.MissingError):  # swept since it was listed
                versions.add(_claim(claim.uri, "index_version").index_version)
    return versions


def remove_staging(folder: str) -> None:
    """Remove what is staged of a run, its claim last, so that no other run finds parts without a claim."""
    names = storage.list_names(folder)
    storage.delete(storage.join(folder, name) for name in names if name != _CLAIM)
    storage.delete_folder(folder)


def _answers(output: str, run_id: str) -> str:
    return storage.join(storage.absolute(output), run_id, "answers.parquet")


def _read_manifest(uri: str) -> RunManifest | None:
    """The manifest at `uri`; None when it is missing or damaged, since it can be derived."""
    content = read_if_there(uri)
    try:
        return None if content is None else _MANIFESTS.parse(content, uri)
    except DamagedError:
        return None


def _claim(uri: str, key: str) -> Claim:
    """The claim at `uri`. Raises `DataError` when it is damaged, naming the `key` that is asked for."""
    try:
        return _CLAIMS.parse(storage.read_bytes(uri), uri)
    except DamagedError as error:
        raise DataError(f"run_id: {uri} has no {key}; remove that folder, or choose another run_id") from error


def _positions(name: str) -> tuple[int, int]:
    """First and last position in a part, by its name."""
    _, first, last, _ = name.split("-")
    return int(first), int(last)


def _failed(rows: pa.Table, most: int) -> list[tuple[str, str]]:
    failed = rows.filter(pc.is_valid(rows[schema.ERROR])).slice(0, most)
    return list(zip(failed[schema.PROMPT_ID].to_pylist(), failed[schema.ERROR].to_pylist(), strict=True))
