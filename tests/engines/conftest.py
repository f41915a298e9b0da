from tests.models.conftest import embedder, paragraphs, qwen2
from tests.planning.jobs import model, settings

__all__ = ["embedder", "model", "paragraphs", "qwen2", "settings"]  # fixtures
