"""Engines run sleds. What one is like is decided in `spec` and `container`, purely; an engine only carries it out."""

from gateway.engine.engine import Engine, LogOf, Prepared
from gateway.engine.spec import ProjectPaths, SledSpec
from gateway.engine.way import Way

__all__ = [
    "Engine",
    "LogOf",
    "Prepared",
    "ProjectPaths",
    "SledSpec",
    "Way",
    "build_times",
    "container",
    "docker",
    "log_file",
    "process",
    "way",
]
