"""Every error that a user can meet, with the exit code it ends the job with.

    RagjobError
    ├── SettingsError    2  a setting is wrong, or doesn't fit the machine or the other settings
    ├── DependencyError  3  storage, Chroma, Ray, Kubernetes or a model can't be used
    │   └── EngineDied      an engine, or its GPU, has died: its worker is to end, another takes its rows
    ├── DataError        4  an input is missing or malformed, or an index doesn't fit the settings
    ├── TooManyFailures  5  more rows failed than `errors.max_rate` allows
    └── Stopped        130  the job was asked to stop; what is staged stays

Each carries one message, so that it survives pickling between Ray's processes. A row that fails is
not among them: it becomes a row with `error`.
"""


class RagjobError(Exception):
    """Ends the job with `exit_code` and one line for the user."""

    exit_code = 1


class SettingsError(RagjobError):
    exit_code = 2


class DependencyError(RagjobError):
    exit_code = 3


class EngineDied(DependencyError):  # noqa: N818
    """Ends a worker, and the job only when it comes again and again."""


class DataError(RagjobError):
    exit_code = 4


class TooManyFailures(RagjobError):  # noqa: N818 - reads as what happened
    exit_code = 5


class Stopped(RagjobError):  # noqa: N818
    exit_code = 130
