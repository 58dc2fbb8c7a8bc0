"""Places of their own for agents: made, started, rebuilt, ended."""

from gateway.projects.bootstrap import Created, Projects, Request
from gateway.projects.places import Places
from gateway.projects.rebuild import Changes, Rebuilt
from gateway.projects.registry import Setup

__all__ = [
    "Changes",
    "Created",
    "Places",
    "Projects",
    "Rebuilt",
    "Request",
    "Setup",
    "file_changes",
    "ports",
    "recipes",
    "ssh",
]
