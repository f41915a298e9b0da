"""Every setting of the job: `job.yaml`, `RAGJOB__A__B` variables and `--set a.b=v`, in rising precedence.

Each package defines its sections; this module joins them into one tree.
"""

import difflib
import os
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import BaseModel, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from ragjob.documents.settings import Chunk, Corpus, Prompts
from ragjob.engines import ENGINES
from ragjob.engines.settings import Generation
from ragjob.errors import SettingsError, yaml_fault
from ragjob.ledger.settings import Index, Keep, Output
from ragjob.models.settings import Embed, Models, Rerank
from ragjob.retrieval import MODES
from ragjob.retrieval.chroma.settings import Chroma
from ragjob.retrieval.settings import Retrieval
from ragjob.settings import Decides, FromText, Name, Pool, RepeatedKeyError, Section, parse_yaml, setting, with_all
from ragjob.stages.settings import Augment
from ragjob.storage.settings import S3

ENV_PREFIX = "RAGJOB__"
NONE = "null"  # what a variable or an assignment says to unset a key
_NUMBER = re.compile(r"[-+]?(\d+(\.\d+)?|inf|nan)")

if TYPE_CHECKING:

    class Generate(Generation): ...

    class Retrieve(Retrieval): ...

else:
    Generate = with_all(Generation, "Generate", "engine", ENGINES, __name__)
    Retrieve = with_all(Retrieval, "Retrieve", "mode", MODES, __name__)


class Errors(Section):
    max_rate: float = setting(
        0.1,
        decides=Decides.NEITHER,
        description="share of failed prompts (for index: documents) above which nothing is published",
        ge=0,
        le=1,
    )


class NodeGroup(Section):
    """Equal nodes of a cluster: `min` to `max` of them, and what each has."""

    name: str = setting(
        "",
        decides=Decides.NEITHER,
        description="the value of its nodes' Ray label `ray.io/node-group`, for pools that name it",
    )
    cpus: float = setting(1, decides=Decides.NEITHER, description="CPUs of a node", gt=0)
    gpus: int = setting(0, decides=Decides.NEITHER, description="GPUs of a node", ge=0)
    memory_gb: float | None = setting(
        None, decides=Decides.NEITHER, description="memory of a node in GB, its pod's limit", gt=0
    )
    gpu_gb: float | None = setting(None, decides=Decides.NEITHER, description="memory of a GPU in GB", gt=0)
    min: int = setting(0, decides=Decides.NEITHER, description="nodes requested once the plan has passed", ge=0)
    max: int = setting(1, decides=Decides.NEITHER, description="maximum number of nodes", ge=1)

    @model_validator(mode="after")
    def _max_holds_min(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"min {self.min} is above max {self.max}: raise max")
        return self


class Cluster(Section):
    """What the cluster may grow to. By default what Ray sees: here, or where RAY_ADDRESS points."""

    groups: Annotated[list[NodeGroup], FromText] = setting(
        [],
        decides=Decides.NEITHER,
        description="one `{name, cpus, gpus, memory_gb, gpu_gb, min, max}` per kind of node; by default what Ray sees",
    )
    cpus: float | None = setting(
        None, decides=Decides.NEITHER, description="total CPUs, if all nodes are equal; prefer `cluster.groups`", gt=0
    )
    gpus: float | None = setting(
        None, decides=Decides.NEITHER, description="total GPUs, if all nodes are equal; prefer `cluster.groups`", ge=0
    )
    nodes: int | None = setting(
        None, decides=Decides.NEITHER, description="number of equal nodes; prefer `cluster.groups`", ge=1
    )
    gpu_gb: float | None = setting(
        None,
        decides=Decides.NEITHER,
        description="memory of the smallest GPU in GB, used for planning if no group states it",
        gt=0,
    )

    @model_validator(mode="after")
    def _is_said_once(self) -> Self:
        names = [group.name for group in self.groups]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two groups are named {twice}; give each its own name")
        if self.groups and self.sums:
            raise ValueError(f"groups and {' and '.join(self.sums)} mean the same; keep only groups")
        return self

    @property
    def sums(self) -> list[str]:
        """The settings given that treat all nodes as equal."""
        return [key for key in ("cpus", "gpus", "nodes", "gpu_gb") if getattr(self, key) is not None]

    def gpu_memory_gb(self, pool: Pool) -> float | None:
        """Memory of the smallest GPU that actors of `pool` may get, in GB; None where it isn't known."""
        enough = max(1, pool.num_gpus)
        groups = [group for group in self.groups if pool.allows(group.name) and group.gpus >= enough]
        known = [group.gpu_gb for group in groups if group.gpu_gb]
        return min(known) if known and len(known) == len(groups) else self.gpu_gb


class JobSettings(BaseSettings):
    """All settings of a job, in sections: docs/settings.md has the table of keys, defaults and meanings.

    A key that isn't given comes from its environment variable, such as `RAGJOB__CHUNK__SIZE`, or has its default.
    Unknown keys and bad values raise pydantic's `ValidationError`. Once made, settings can't be changed.

    >>> JobSettings(corpus={"uri": "books/"}).chunk.size
    200
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_parse_none_str=NONE, extra="forbid", frozen=True
    )

    run_id: Name | None = setting(None, decides=Decides.NEITHER, description="name of the run; a digest by default")
    commit_rows: int = setting(
        256, decides=Decides.NEITHER, description="rows per staged part; a kill loses about this many at most", ge=1
    )
    corpus: Corpus = Corpus()
    prompts: Prompts = Prompts()
    index: Index = Index()
    output: Output = Output()
    chroma: Chroma = Chroma()
    chunk: Chunk = Chunk()
    embed: Embed = Embed()
    retrieve: Retrieve = Retrieve()
    rerank: Rerank = Rerank()
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
    """Read settings as the command line does. The environment overrides the file, and assignments override both.

    Args:
        file: a YAML file such as `job.yaml`, or None for no file.
        assignments: texts such as `a.b=v`, as `--set` takes them. The value `null` unsets a key.

    Returns:
        The settings, checked.

    Raises:
        SettingsError: a key is unknown, a value is malformed, or the file can't be read.
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
        raise SettingsError(f"environment: {error}; set its keys one by one, as in {ENV_PREFIX}CORPUS__URI") from error


def require(settings: JobSettings, command: str, *keys: str) -> None:
    """Raise `SettingsError` for the first of `keys` that isn't set."""
    for key in keys:
        required(attrgetter(key)(settings), key, command)


def required(value: str | None, key: str, command: str) -> str:
    """`value`, the value of `key`. Raises `SettingsError` if it isn't set."""
    if value is None:
        raise SettingsError(f"{key}: required by `{command}`; set it in job.yaml or with --set {key}=...")
    return value


def keys_of(model: type[BaseModel] = JobSettings, prefix: str = "") -> Iterator[str]:
    """Yield every key with its section: `run_id`, `corpus.uri`, ..."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _check_yaml(file: Path) -> None:
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: can't be read ({error}); `ragjob init` writes one") from error
    except RepeatedKeyError as error:
        raise SettingsError(f"{file}: {error}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there isn't
        raise SettingsError(f"{file}: not YAML: {yaml_fault(error)}") from error
    if not isinstance(tree, dict | None) or not all(isinstance(key, str) for key in tree or {}):
        raise SettingsError(f"{file}: must contain keys and values; `ragjob init` writes an example")


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
            raise SettingsError("--set: an assignment has no `=`; write it as a.b=value")
        node = root
        *sections, name = key.strip().split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise SettingsError(f"--set {key}: another --set gives {section} a value; keep one of the two")
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
    # Anything but a number may be a password, or hold one, that was set in the wrong place.
    given = f", got {item['input']}" if _NUMBER.fullmatch(str(item["input"])) else ""
    return f"{key}: {message[0].lower()}{message[1:]}{given}"


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, list(keys_of()), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`ragjob schema` lists the keys"
    return f"unknown setting; {hint}"
