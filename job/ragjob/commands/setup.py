"""What a command that loads a model or starts Ray or Chroma does first."""

from ragjob import storage
from ragjob.config import JobSettings
from ragjob.runtime.home import settle_home


def set_up(settings: JobSettings) -> None:
    """Prepare this process for storage, and for the libraries that keep files in a home."""
    settle_home()
    storage.configure(settings.s3)
