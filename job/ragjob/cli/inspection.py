"""What `inspect` prints."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from ragjob.cli.output import out
from ragjob.commands.inspect import InspectedChunk, InspectedDocument, Inspection
from ragjob.errors import printable

SHOWN_CHARS = 100  # of a text that is shortened


def show_inspection(inspection: Inspection, *, full: bool, as_json: bool) -> None:
    """Print each document with its blocks and chunks, texts shortened unless `full`, or all of it as JSON."""
    if as_json:
        print(json.dumps(asdict(inspection), indent=2, ensure_ascii=False))
        return
    shown = len(inspection.documents)
    of_all = f", the first {shown:,}" * (shown < inspection.rows)
    out.print(f"{printable(inspection.file)}: {_count(inspection.rows, 'document')}{of_all}", markup=False)
    for document in inspection.documents:
        out.print(*map(printable, _document(document, full)), sep="\n", markup=False)


def _document(document: InspectedDocument, full: bool) -> Iterator[str]:
    yield from ("", document.document_id)
    if document.title:
        yield f"  title     {document.title}"
    for name, value in document.metadata.items():
        yield f"  metadata  {name} = {json.dumps(value, ensure_ascii=False)}"
    if document.short_passages:
        yield f"  {_count(document.short_passages, 'short passage')} left out (see chunk.min_chars)"
    if document.unknown_share:
        yield f"  {document.unknown_share:.0%} of its words are unknown to the embedding model"
    for block in document.blocks:
        if block.text.strip():
            kind = f"{block.kind} {block.level}" if block.kind == "heading" else block.kind
            yield f"  {kind:<9}{_page(block.page)} {_shortened(block.text)}"
    for chunk in document.chunks:
        yield from _chunk(chunk, full)


def _chunk(chunk: InspectedChunk, full: bool) -> Iterator[str]:
    tokens = "" if chunk.tokens is None else f", {_count(chunk.tokens, 'token')}"
    yield from ("", f"  chunk {chunk.index}{_page(chunk.page)}{tokens * (not chunk.error)}")
    for name, value in (("heading", chunk.heading), ("context", chunk.context), ("error", chunk.error)):
        if value:
            yield f"    {name}: {value}"
    if chunk.text:
        yield from (f"    {line}" for line in (chunk.text.splitlines() if full else [_shortened(chunk.text)]))


def _page(page: int | None) -> str:
    return "" if page is None else f" on page {page}"


def _shortened(text: str) -> str:
    line = " ".join(text[: 4 * SHOWN_CHARS].split())
    return line if len(line) <= SHOWN_CHARS and len(text) <= 4 * SHOWN_CHARS else f"{line[:SHOWN_CHARS]} …"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
