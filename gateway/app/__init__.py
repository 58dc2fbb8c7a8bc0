"""A gateway: built, started, ended. The only place that names concrete classes."""

__all__ = ["app", "build", "inspection", "platforms", "startup"]
