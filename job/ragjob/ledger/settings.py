"""Settings of what is kept on storage: index versions, answers, and for how long."""

from ragjob.settings import CollectionStem, Decides, Name, Section, Uri, setting


class Index(Section):
    uri: Uri | None = setting(
        None, decides=Decides.NEITHER, description="folder for index versions, with vectors and texts"
    )
    collection: CollectionStem = setting(
        "corpus", decides=Decides.NEITHER, description="prefix of the collection's name in Chroma"
    )
    cache: Uri = setting(
        "~/.cache/ragjob/index",
        decides=Decides.NEITHER,
        description="folder where each node caches an index from s3://",
    )
    version: Name | None = setting(
        None, decides=Decides.NEITHER, description="version to answer from; the current one by default"
    )


class Output(Section):
    uri: Uri | None = setting(None, decides=Decides.NEITHER, description="folder for answers, with one folder per run")


class Keep(Section):
    versions: int = setting(
        3,
        decides=Decides.NEITHER,
        description="how many of the newest index versions `clean` keeps besides the current one",
        ge=1,
    )
    staging_days: float = setting(
        7,
        decides=Decides.NEITHER,
        description="days without a write after which `clean` removes unfinished work",
        gt=0,
    )
