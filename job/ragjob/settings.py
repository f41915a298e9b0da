"""What groups of settings are made of: their base, actor pools, types of fields, and what a field decides.

It also reads what several packages need of the environment: its proxies, and its secrets.

>>> class Tea(Section):
...     kind: str = setting("green", decides=Decides.RUN, description="kind of tea")
...     cups: int = setting(1, decides=Decides.NEITHER, description="cups at once", ge=1)
>>> Tea(cups=3).deciding(Decides.RUN)
{'kind': 'green'}
"""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    create_model,
    model_validator,
)

FAMILY = "RAGJOB_FAMILY"  # the variable that marks processes which must not outlive the job

T = TypeVar("T")

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
# Names from settings, and from storage, where others may write: each is one part of a path, and never `..`.
NAME = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$"
Name = Annotated[str, Field(pattern=NAME)]  # of a run, an index version or a segment
FileName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,199}$")]  # in the folder of one of these
# What Chroma takes, with the version after it: no two dots in a row.
CollectionStem = Annotated[str, Field(pattern=r"^[a-zA-Z0-9](\.?[a-zA-Z0-9_-])*\.?$", max_length=64)]


class RepeatedKeyError(yaml.YAMLError):
    """A mapping has the same key twice."""


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML's safe loader, but it refuses a key given twice, of which PyYAML keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        first: dict[str, yaml.Node] = {}
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if first.setdefault(key.value, key) is not key:
                lines = [mark.line + 1 for mark in (first[key.value].start_mark, key.start_mark)]
                raise RepeatedKeyError(
                    f"{key.value} is given twice, in lines {lines[0]} and {lines[1]}; keep one of them"
                )
        return node


def parse_yaml(text: str) -> Any:
    """The value that a YAML text holds. Raises `yaml.YAMLError`, also for a key that a mapping has twice."""
    return yaml.load(text, _UniqueKeys)


class Decides(StrEnum):
    """What changes with the value of a setting: chunks and vectors, or answers; or only how they are computed."""

    INDEX = "index"
    RUN = "run"
    NEITHER = "neither"


def setting(default: T, *, decides: Decides, description: str, **constraints: object) -> T:
    """A field of a section: its default, what it decides, and its meaning in a few words.

    `constraints` are those of pydantic's `Field`, such as `ge=1`. The JSON schema says what it decides, too.
    """
    field: Any = Field  # pydantic types it so that it fits a field of any type
    made: T = field(default, description=description, json_schema_extra={"decides": decides.value}, **constraints)
    return made


def names_no_user(url: str | None) -> str | None:
    """`url`, if it has neither user nor password in it."""
    if url and "@" in url:
        raise ValueError("must be http://HOST:PORT or https://HOST, without user and password")
    return url


def _is_address(url: str) -> str:
    """`url`, if it is a server's address. Never shown when it isn't: it may hold a password."""
    parts = re.fullmatch(r"https?://(?:[^@/?#\s]*@)?(?:[A-Za-z\d.-]+|\[[\da-fA-F:]+\])(?::(\d+))?(?:/[^@?#\s]*)?", url)
    if not parts or not 0 < int(parts[1] or 1) < 2**16:
        raise ValueError("must be http://HOST:PORT or https://HOST, without underscores in the host's name")
    return url


def _is_line(uri: str) -> str:
    """`uri`, if it is text in one line."""
    if re.search(r"[\x00-\x1f\x7f]", uri):
        raise ValueError("holds a line break or another control character; remove it")
    return uri


def reached_directly(url: str) -> bool:
    """Return whether a request to `url` ignores the proxies that the environment names.

    True for loopback addresses, and for names that a proxy couldn't look up: those without a dot, such as the chart's
    Chroma service, and those that end in `.svc` or `.cluster.local`. Also true for what NO_PROXY lists, since clients
    set up all proxies, SOCKS included, before they read it.

    >>> reached_directly("http://answers-chroma:8000"), reached_directly("https://api.example.com/v1")
    (True, False)
    """
    from urllib.request import proxy_bypass  # imports an HTTP client, which a finished job does without

    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    try:
        return ip_address(host).is_loopback or bool(proxy_bypass(host))
    except ValueError:  # a name
        inside = "." not in host or host.endswith((".localhost", ".svc", ".cluster.local"))
        return inside or bool(proxy_bypass(parts.netloc.rpartition("@")[2]))


def proxy_fault(error: Exception) -> str:
    """What is wrong with the environment's proxies, and the remedy, when a client can't be made with them."""
    if isinstance(error, ImportError):
        reason = "names a SOCKS proxy, but the package socksio isn't installed: install it"
    else:
        reason = "isn't a proxy's address: correct it"
    return f"a variable such as ALL_PROXY or HTTP_PROXY {reason}, or unset the variable"


def strip_variables(prefix: str) -> None:
    """Take the blanks and line breaks off the ends of variables that begin with `prefix`: Secrets often have them."""
    for name, value in os.environ.items():
        if name.startswith(prefix) and value != value.strip():
            os.environ[name] = value.strip()


def _parsed(given: object) -> object:
    """The list or mapping that a variable or an assignment gives as text."""
    if not (isinstance(given, str) and given.startswith(("[", "{"))):
        return given
    try:
        return parse_yaml(given)
    except RepeatedKeyError as error:
        raise ValueError(str(error)) from error
    except yaml.YAMLError:
        return given  # the field's type refuses it


FromText = BeforeValidator(_parsed)  # marks a field that is, or may be, a list or a mapping
# White space at its ends is from a Secret or a variable, and no part of it.
Uri = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_is_line)]
Address = Annotated[str, AfterValidator(_is_address)]


class Section(BaseModel):
    """Base of every group of settings: fixed once read, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, given: object) -> object:
        return {} if given is None else given  # YAML reads a section with every key commented out as null

    def deciding(self, what: Decides) -> dict[str, object]:
        """The values of this section's fields that decide `what`, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields if decides(type(self), name) == what}


def decides(section: type[BaseModel], name: str) -> str | None:
    """What the field `name` of a section is marked to decide; None for a nested section, or a field without a mark."""
    extra = section.model_fields[name].json_schema_extra
    return str(extra["decides"]) if isinstance(extra, dict) and "decides" in extra else None


class Pool(Section):
    """An actor pool: `min` to `max` actors, each reserving `num_cpus` CPUs and `num_gpus` GPUs of a node."""

    min: int = setting(1, decides=Decides.NEITHER, description="actors to keep running", ge=1)
    max: int = setting(1, decides=Decides.NEITHER, description="maximum number of actors", ge=1)
    num_cpus: float = setting(1, decides=Decides.NEITHER, description="CPUs reserved for each actor", gt=0)
    num_gpus: float = setting(
        0, decides=Decides.NEITHER, description="GPUs reserved for each actor; a fraction shares one GPU", ge=0
    )
    group: Annotated[str | list[str] | None, FromText] = setting(
        None,
        decides=Decides.NEITHER,
        description="group of nodes for its actors, or a list of groups to try in order",
    )

    @property
    def groups(self) -> list[str]:
        """The groups of nodes on which its actors may be; none for any."""
        return [self.group] if isinstance(self.group, str) else self.group or []

    def allows(self, group: str) -> bool:
        """Return whether its actors may be on nodes of the group."""
        return not self.groups or group in self.groups

    @model_validator(mode="after")
    def _max_holds_min(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"min {self.min} is above max {self.max}: raise max")
        return self


def with_all(base: type[Section], name: str, selector: str, kinds: Mapping[str, "Kind"], module: str) -> type[Section]:
    """The section `base` with the settings of all `kinds` of a capability.

    Its field `selector` names one of them, by default the first.
    """
    sections = dict.fromkeys(kind.Settings for kind in kinds.values())
    # One that another extends comes with that.
    parts = [part for part in sections if not any(issubclass(other, part) for other in sections if other is not part)]
    summary = "; ".join(f"{kind}: {about.summary}" for kind, about in kinds.items())
    chosen = setting(next(iter(kinds)), decides=Decides(str(decides(base, selector))), description=summary)
    fields: dict[str, Any] = {selector: (Literal[tuple(kinds)], chosen)}
    return create_model(name, __base__=(*reversed(parts),), __module__=module, **fields)


class Kind(Protocol):
    """One choice of a capability, such as an engine: its line in the table of settings, and its own settings."""

    summary: str
    Settings: type[Section]
