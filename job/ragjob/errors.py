"""Every error that a user can meet, with the exit code it ends the job with.

    RagjobError
    ├── Defect           1  ragjob itself is wrong; the message is the traceback
    ├── SettingsError    2  a setting is wrong, or doesn't fit the machine or the other settings
    ├── DependencyError  3  storage, Chroma, Ray, Kubernetes or a model can't be used
    │   └── EngineDied      an engine, or its GPU, has died: its worker ends, and another takes its rows
    ├── DataError        4  an input is missing or malformed, or an index doesn't fit the settings
    ├── TooManyFailures  5  more rows failed than `errors.max_rate` allows
    ├── EvaluationFailed 6  a run is worse than `evaluate` was told it must be, or than another run
    └── Stopped        130  the job was asked to stop; what is staged stays

Each carries one message, so that it survives pickling between Ray's processes. A row that fails is
not among them: it becomes a row with `error`.
"""

import re

_USER = re.compile(r"(:/{1,2})[^/\s]*@")  # and password in an address, also in one taken for a path
_QUOTED = re.compile(r" '[^'<]{2,}'")  # what a parser found; of its own words it puts "<" around what isn't a character


# Of a terminal's control: C0 and C1, separators of lines, what turns the direction of text, and halves of characters.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(value: object) -> str:
    """A text from outside, such as a file's name, on one line and without control characters.

    >>> printable("report\\x1b[2J\\u202etxt.exe")
    'report\\\\x1b[2J\\\\u202etxt.exe'
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), str(value))


class RagjobError(Exception):
    """Base of all errors of ragjob: ends the job with `exit_code` and one line for the user."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        message = _USER.sub(r"\1", message)
        super().__init__(message)
        self.message = message  # as it was: Ray adds advice of its own to what `str` gives


class Defect(RagjobError):  # noqa: N818
    """A bug in ragjob. The message is the traceback of the process where it occurred."""


class SettingsError(RagjobError):
    """A setting is wrong, or doesn't fit the machine or other settings. The message names it."""

    exit_code = 2


class DependencyError(RagjobError):
    """Storage, Chroma, Ray, Kubernetes, a model or an API can't be used. The same job may succeed later."""

    exit_code = 3


class EngineDied(DependencyError):  # noqa: N818
    """Ends a worker; it ends the job only if it happens again and again."""


class DataError(RagjobError):
    """An input is missing or malformed, or an index doesn't fit the settings."""

    exit_code = 4


class TooManyFailures(RagjobError):  # noqa: N818 - reads as what happened
    """More rows failed than `errors.max_rate` allows. Nothing is published; the answers so far stay staged."""

    exit_code = 5


class EvaluationFailed(RagjobError):  # noqa: N818 - reads as what happened
    """A run is below the limits of `--fail-under`, or significantly worse than the run of `--against`."""

    exit_code = 6


class Stopped(RagjobError):  # noqa: N818
    """The job was asked to stop. Finished work is kept, and the same job resumes from it."""

    exit_code = 130


def yaml_fault(error: Exception) -> str:
    """Why a text isn't YAML, and where, on one line; without the text itself, which may hold passwords."""
    said = [getattr(error, name, None) for name in ("context", "problem")]
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    words = " ".join(filter(None, said)) or "a value isn't valid, such as a date that doesn't exist"
    return _QUOTED.sub("", words) + where
