"""A gateway: built, started, ended. The only place that names concrete classes."""
