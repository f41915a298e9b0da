"""What a command does first that loads a model or starts Ray or Chroma."""

from ragjob import storage
from ragjob.config import JobSettings
from ragjob.runtime.home import settle_home


def set_up(settings: JobSettings) -> None:
    """Prepare this process for storage, and for the libraries that keep files in a home."""
    settle_home()
    storage.configure(settings.s3)
