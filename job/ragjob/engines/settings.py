"""Settings that all engines share. Those of one engine are in its own package."""

from ragjob.settings import Decides, Dtype, Pool, Section, setting


class GeneratePool(Pool):
    num_cpus: float = setting(0.5, decides=Decides.NEITHER, description="CPUs reserved for each actor", gt=0)


class Generation(Section):
    """What every engine is told; an engine with settings of its own adds them in a subclass."""

    engine: str = setting("", decides=Decides.RUN, description="what answers: the first that is registered, by default")
    model: str = setting(
        "Qwen/Qwen2.5-0.5B-Instruct",
        decides=Decides.RUN,
        description="hub id, local folder or s3:// prefix; for an API, its name for the model",
        min_length=1,
    )
    revision: str | None = setting(None, decides=Decides.RUN, description="branch, tag or commit of a hub model")
    dtype: Dtype = setting(
        "auto",
        decides=Decides.NEITHER,
        description="auto: on CUDA bfloat16 or the model's own, on a CPU whichever is faster",
    )
    max_new_tokens: int = setting(256, decides=Decides.RUN, description="at most this many tokens in an answer", ge=1)
    temperature: float = setting(0, decides=Decides.RUN, description="0 means greedy decoding", ge=0)
    max_engine_restarts: int = setting(
        3, decides=Decides.NEITHER, description="how often a worker that dies is restarted with the same prompts", ge=0
    )
    pool: GeneratePool = GeneratePool()
