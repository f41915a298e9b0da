"""Settings of the Chroma server that is searched."""

from typing import Self

from pydantic import model_validator

from ragjob.settings import Address, Decides, Section, Uri, setting


class Chroma(Section):
    url: Address | None = setting(
        None,
        decides=Decides.NEITHER,
        description="address of a Chroma server; by default the job starts its own; "
        "one with a password belongs in the variable RAGJOB__CHROMA__URL",
    )
    path: Uri | None = setting(
        None, decides=Decides.NEITHER, description="data folder of the job's own server; temporary by default"
    )
    timeout_s: float = setting(
        60,
        decides=Decides.NEITHER,
        description="seconds without a response from Chroma, retries included, before the job fails",
        gt=0,
    )

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.url and self.path:
            raise ValueError("url and path are both set, but path is for the job's own server; leave one out")
        return self


def lasts(settings: Chroma) -> bool:
    """Return whether the server is permanent: what is loaded into it is still there after the job.

    Without a permanent server, an index is committed unloaded: its vectors stay on storage.
    """
    return bool(settings.url or settings.path)
