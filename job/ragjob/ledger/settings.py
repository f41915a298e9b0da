"""Settings of what is kept on storage: index versions, answers, and for how long."""

from ragjob.settings import CollectionStem, Decides, Name, Section, Uri, setting


class Index(Section):
    uri: Uri | None = setting(
        None, decides=Decides.NEITHER, description="folder that keeps index versions, vectors and texts"
    )
    collection: CollectionStem = setting("corpus", decides=Decides.NEITHER, description="stem of the collection's name")
    cache: Uri = setting(
        "~/.cache/ragjob/index",
        decides=Decides.NEITHER,
        description="folder that keeps what retrieval reads of an index on s3://, once per node",
    )
    version: Name | None = setting(
        None, decides=Decides.NEITHER, description="version to answer from; the current one by default"
    )


class Output(Section):
    uri: Uri | None = setting(
        None, decides=Decides.NEITHER, description="folder that answers are written to, one folder a run"
    )


class Keep(Section):
    versions: int = setting(
        3,
        decides=Decides.NEITHER,
        description="index versions that `clean` keeps beside the current one: the newest",
        ge=1,
    )
    staging_days: float = setting(
        7,
        decides=Decides.NEITHER,
        description="days without a write after which `clean` takes what never came to its end",
        gt=0,
    )
