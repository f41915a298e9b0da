"""Settings that all retrieval modes share. Those of one mode are in its own module."""

from typing import Literal

from ragjob.retrieval.languages import LANGUAGES
from ragjob.retrieval.where import Where
from ragjob.settings import Decides, Pool, Section, setting

NO_LANGUAGE = "none"


class RetrievePool(Pool):
    num_cpus: float = setting(
        0.1, decides=Decides.NEITHER, description="CPUs reserved for each actor; it mostly waits for Chroma", gt=0
    )


class Retrieval(Section):
    """What every mode is told; a mode with settings of its own adds them in a subclass."""

    mode: str = setting("", decides=Decides.RUN, description="how passages are found: the first that is registered")
    top_k: int = setting(3, decides=Decides.RUN, description="at most this many passages per prompt", ge=1, le=1000)
    candidates: int = setting(
        100,
        decides=Decides.RUN,
        description="passages per prompt that each side finds; never fewer than `top_k`",
        ge=1,
        le=10000,
    )
    sentences: bool = setting(
        True,
        decides=Decides.RUN,
        description="rank a passage by its own similarity or its best sentence's, whichever is higher",
    )
    language: Literal[(*LANGUAGES, NO_LANGUAGE)] = setting(  # type: ignore[valid-type]
        "en",
        decides=Decides.RUN,
        description="language of the corpus, for stemming words and leaving out the commonest where words are "
        f"compared; {NO_LANGUAGE} for any other",
    )
    min_score: float | None = setting(
        None, decides=Decides.RUN, description="passages less similar than this are left out", ge=-1, le=1
    )
    where: Where = setting(
        {},
        decides=Decides.RUN,
        description="filter by metadata: for each name a value, a list of values of which one must match, or "
        "`{column}` for the value in that column of the prompt; all names must match",
    )
    batch_size: int = setting(
        256, decides=Decides.NEITHER, description="at most this many prompts in one request", ge=1
    )
    pool: RetrievePool = RetrievePool()
