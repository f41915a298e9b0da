"""Settings that all retrieval modes share. Those of one mode stand in its own module."""

from ragjob.retrieval.where import Where
from ragjob.settings import Decides, Pool, Section, setting


class RetrievePool(Pool):
    num_cpus: float = setting(
        0.1, decides=Decides.NEITHER, description="CPUs reserved for each actor; it mostly waits for Chroma", gt=0
    )


class Retrieval(Section):
    """What every mode is told; a mode with settings of its own adds them in a subclass."""

    mode: str = setting("", decides=Decides.RUN, description="how passages are found: the first that is registered")
    top_k: int = setting(3, decides=Decides.RUN, description="passages for a prompt, at most", ge=1, le=1000)
    candidates: int = setting(
        100, decides=Decides.RUN, description="passages that are compared for a prompt, at least top_k", ge=1, le=10000
    )
    sentences: bool = setting(
        True, decides=Decides.RUN, description="rank a passage by the better of its own similarity and its sentences'"
    )
    min_score: float | None = setting(
        None, decides=Decides.RUN, description="passages below this similarity are left", ge=-1, le=1
    )
    where: Where = setting(
        {},
        decides=Decides.RUN,
        description="names of metadata and what passages must have there: a value, a list of values of which one will "
        "do, or `{column}` of the prompt; all must hold",
    )
    batch_size: int = setting(256, decides=Decides.NEITHER, description="prompts in one request, at most", ge=1)
    pool: RetrievePool = RetrievePool()
