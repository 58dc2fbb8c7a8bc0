"""The Docker engine: a sealed container for each project. This folder is the only one that imports the SDK."""

from gateway.engine.docker.address import is_wanted, looked_at
from gateway.engine.docker.build_proxy import BuildProxy
from gateway.engine.docker.client import answers, start_it
from gateway.engine.docker.engine import DockerEngine

__all__ = ["BuildProxy", "DockerEngine", "answers", "is_wanted", "looked_at", "start_it"]
