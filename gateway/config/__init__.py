"""What the operator set: settings, secrets, who may do what, and the log."""

from gateway.config.access import AGENT, EVENT, SCHEDULE, Access, Role
from gateway.config.credentials import Credential, Credentials
from gateway.config.secrets import Secrets
from gateway.config.sections import Person
from gateway.config.settings import Settings

__all__ = [
    "AGENT",
    "EVENT",
    "SCHEDULE",
    "Access",
    "Credential",
    "Credentials",
    "Person",
    "Role",
    "Secrets",
    "Settings",
    "build_inputs",
    "database",
    "git_identity",
    "host_network",
    "log",
    "mcp",
    "private_file",
    "secrets",
    "sections",
    "settings",
    "state_dir",
    "trust",
]
