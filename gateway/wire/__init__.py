"""A project's socket, and what it carries: its sled's frames, the model, git, servers of tools and files."""

from gateway.wire.files import FileRoutes
from gateway.wire.git import GitProxy
from gateway.wire.git_pushes import Pushes
from gateway.wire.http import Bodies
from gateway.wire.mcp import McpProxy
from gateway.wire.model import ModelProxy
from gateway.wire.model_accounts import Accounts
from gateway.wire.model_keys import NO_KEY, Keys
from gateway.wire.prices import Prices
from gateway.wire.secret_uses import SecretUses
from gateway.wire.server import MAX_SOCKET_PATH
from gateway.wire.sleds import Sleds

__all__ = [
    "MAX_SOCKET_PATH",
    "NO_KEY",
    "Accounts",
    "Bodies",
    "FileRoutes",
    "GitProxy",
    "Keys",
    "McpProxy",
    "ModelProxy",
    "Prices",
    "Pushes",
    "SecretUses",
    "Sleds",
    "git_url",
    "model_check",
]
