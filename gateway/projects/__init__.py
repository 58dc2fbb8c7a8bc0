"""Places of their own for agents: made, started, rebuilt, ended."""

from gateway.projects.bootstrap import Created
from gateway.projects.places import Places
from gateway.projects.projects import Projects
from gateway.projects.rebuild import Changes, Rebuilt
from gateway.projects.registry import Registry, Setup
from gateway.projects.reservations import Request

__all__ = [
    "Changes",
    "Created",
    "Places",
    "Projects",
    "Rebuilt",
    "Registry",
    "Request",
    "Setup",
    "file_changes",
    "limits",
    "ports",
    "recipes",
    "shared",
    "skills",
    "source_tree",
    "ssh",
    "users",
]
