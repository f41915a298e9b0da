"""What `search` prints."""

import json

from ragjob.cli.output import out
from ragjob.commands.search import Hit
from ragjob.errors import printable

SHOWN_CHARS = 200  # of a passage's text


def show_hits(hits: list[Hit], *, as_json: bool) -> None:
    """Print the passages with their scores, or all that is known of them as JSON."""
    if as_json:
        print(json.dumps([_as_dict(hit) for hit in hits], indent=2, ensure_ascii=False))
        return
    if not hits:
        out.print("No passage was found.")
    for number, hit in enumerate(hits, 1):
        out.print(printable(f"{number}. {_scores(hit)}  {_origin(hit)}"), markup=False)
        text = " ".join(hit.passage.text.split())
        out.print(printable(f"   {text[:SHOWN_CHARS]}{'…' * (len(text) > SHOWN_CHARS)}"), markup=False)


def _as_dict(hit: Hit) -> dict[str, object]:
    return {"score": hit.score, "similarity": hit.similarity, "bm25": hit.bm25, **hit.passage._asdict()}


def _scores(hit: Hit) -> str:
    words = "" if hit.bm25 is None else f", BM25 {hit.bm25:.2f}"
    return f"score {hit.score:.3f}: similarity {hit.similarity:.3f}{words}"


def _origin(hit: Hit) -> str:
    passage = hit.passage
    page = None if passage.page is None else f"page {passage.page}"
    return ", ".join(filter(None, [passage.title, passage.heading, page, passage.uri]))
