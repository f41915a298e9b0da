from tests.planning.jobs import model, settings

__all__ = ["model", "settings"]  # fixtures
