"""Settings of the corpus, of the prompts, and of how documents are cut into chunks."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from ragjob.documents.readers import DOCUMENTS, PROMPTS, listed
from ragjob.documents.readers.document import DEFAULT_LIMITS
from ragjob.settings import Decides, FromText, Section, Uri, setting
from ragjob.storage.names import has_stray_stars


def _is_pattern(pattern: str) -> str:
    """`pattern`, if it can match a path inside the corpus."""
    if has_stray_stars(pattern) or {"", ".", ".."} & set(pattern.split("/")):
        raise ValueError(
            f"{pattern!r} matches no path inside corpus.uri: write it without . and .., without a slash at either end, "
            "and with ** alone between slashes, such as drafts/** or **/*.txt"
        )
    return pattern


Patterns = Annotated[list[Annotated[str, AfterValidator(_is_pattern)]], FromText]


class Corpus(Section):
    uri: Uri | None = setting(
        None,
        decides=Decides.NEITHER,
        description=f"file, folder or glob of {listed(DOCUMENTS)}; text formats also as .gz",
    )
    include: Patterns = setting(
        [],
        decides=Decides.INDEX,
        description="globs of the files to read, relative to `corpus.uri`, such as `**/*.md`; all by default",
    )
    exclude: Patterns = setting(
        [], decides=Decides.INDEX, description="globs of files to leave out, such as `drafts/**`"
    )
    text_column: str = setting("text", decides=Decides.INDEX, description="column with the text, in tables")
    id_column: str | None = setting(None, decides=Decides.INDEX, description="column with the document's id, in tables")
    title_column: str | None = setting(
        None, decides=Decides.INDEX, description="column with the document's title, in tables"
    )
    metadata_columns: Annotated[list[str], FromText] = setting(
        [], decides=Decides.INDEX, description="columns kept as the document's metadata, in tables"
    )
    max_pages: int = setting(
        DEFAULT_LIMITS.pages,
        decides=Decides.INDEX,
        description="at most this many pages, slides or sheets in a document; one with more is an error",
        ge=1,
    )
    max_chars: int = setting(
        DEFAULT_LIMITS.chars,
        decides=Decides.INDEX,
        description="at most this many characters in a document; one with more is an error",
        ge=1,
    )


class Prompts(Section):
    uri: Uri | None = setting(
        None,
        decides=Decides.NEITHER,
        description=f"file, folder or glob of {listed(PROMPTS)}; text formats also as .gz; .txt has a prompt per line",
    )
    prompt_column: str = setting(
        "prompt", decides=Decides.RUN, description="column with the prompt; other columns pass through to the answers"
    )
    id_column: str | None = setting(None, decides=Decides.RUN, description="column with the prompt's id")


class Chunk(Section):
    strategy: Literal["tokens", "line"] = setting(
        "tokens",
        decides=Decides.INDEX,
        description="tokens: cut at paragraphs and sentences, up to size; line: one chunk per line",
    )
    size: int = setting(
        200,
        decides=Decides.INDEX,
        description="at most this many of the embedding model's tokens in a chunk, and six times as many characters",
        ge=8,
    )
    overlap: int = setting(
        20, decides=Decides.INDEX, description="at most this many tokens shared by neighbouring chunks", ge=0
    )
    context: Literal["heading", "title", "none"] = setting(
        "heading",
        decides=Decides.INDEX,
        description="what is embedded before a chunk's text: its document's title and the headings above it, "
        "the title alone, or nothing",
    )
    min_chars: int = setting(
        10,
        decides=Decides.INDEX,
        description="passages of this many characters or fewer are left out; a full-width character counts as two",
        ge=0,
    )

    @model_validator(mode="after")
    def _overlap_within_size(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap} must be below size {self.size}: lower overlap, or raise size")
        return self

    def deciding(self, what: Decides) -> dict[str, object]:
        """The same as for any section, but with `line`, neither size nor overlap counts."""
        values = super().deciding(what)
        if self.strategy == "line":
            return {name: value for name, value in values.items() if name not in ("size", "overlap")}
        return values
