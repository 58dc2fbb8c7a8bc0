"""`[agent.mcp.<name>]`: the servers of tools (Model Context Protocol) that an operator chose for agents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

from sled.protocol import MAX_SERVER, McpServer

#: The server of our own tools.
_OURS = "huskies"
_SECRET = re.compile(r"token|secret|password|passwd|credential|api_?-?key", re.IGNORECASE)
#: What belongs to one connection, or is the protocol's or ours to say.
_TAKEN = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "cookie"),
        *("expect", "host", "keep-alive", "last-event-id", "mcp-protocol-version", "mcp-session-id", "te", "trailer"),
        *("proxy-authorization", "proxy-connection", "transfer-encoding", "upgrade", "user-agent"),
    }
)
_EXAMPLE = 'command = ["npx", "-y", "some-server"], or url = "https://mcp.example.org/mcp"'


def _name(name: str) -> str:
    if name == _OURS:
        raise ValueError(f"{_OURS} is the name of our own server; choose another one, e.g. [agent.mcp.tracker]")
    if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        raise ValueError("a server's name has a-z, 0-9 and -, 32 at most, e.g. [agent.mcp.tracker]")
    return name


def _words(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError('must be a list of words, e.g. ["npx", "-y", "some-server"]')
    if value == [] or (isinstance(value, list) and value[0] == ""):
        raise ValueError('must begin with a program, e.g. ["npx", "-y", "some-server"]')
    return value


def _url(value: str) -> str:
    """An address without a login; what is wrong is not repeated, as it may hold a secret."""
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not one
        whole = False
    if not whole or not value.isascii() or re.search(r"[\s#]", value):
        raise ValueError("must be an https:// or http:// address, e.g. https://mcp.example.org/mcp")
    if parts.username is not None or parts.password is not None:
        raise ValueError('must not hold a user or a password; write token = "...", or headers = { ... }')
    if any(_SECRET.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError('must not hold a secret; write token = "...", or headers = { "X-Api-Key" = "..." }')
    return value


def _headers(value: Any) -> Any:
    if isinstance(value, dict):
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", str(name)):
                raise ValueError('each key must be a header, e.g. { "X-Api-Key" = "..." }')
            if str(name).lower() in _TAKEN:
                raise ValueError(f"{name} is not for you to set; leave it out")
    return value


def _value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) > 8192 or not text.isascii() or not (text.isprintable() or not text):
        raise ValueError("has line breaks or odd characters in it, or is too long; copy it again")
    return value


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError('each key must be a variable\'s name, e.g. { LOG_LEVEL = "warn" }')
    if _SECRET.search(name):
        raise ValueError(
            f"{name} looks like a secret, and an agent can read whatever is in its container; "
            "use a server with a url, to which the gateway adds the secret"
        )
    return name


def _project(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,38}[a-z0-9]", name) or name == "all":
        raise ValueError('must be names of projects, e.g. ["shop"]; leave it out for all projects')
    return name


Header = Annotated[SecretStr, AfterValidator(_value)]
ServerName = Annotated[str, AfterValidator(_name)]


class McpSection(BaseModel):
    """One server. With a `command`, the agent runs it, in its container; with a `url`, the gateway reaches it and adds
    `token` or `headers`, which no container ever has. No `projects`: all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Annotated[list[str], BeforeValidator(_words)] = []
    env: dict[Annotated[str, AfterValidator(_variable)], str] = {}
    url: Annotated[str, AfterValidator(_url)] = ""
    token: Header = SecretStr("")
    headers: Annotated[dict[str, Header], BeforeValidator(_headers)] = {}
    projects: list[Annotated[str, AfterValidator(_project)]] = []

    @model_validator(mode="after")
    def _is_one_of_two(self) -> McpSection:
        if bool(self.command) == bool(self.url):
            raise ValueError(f"needs {'only ' if self.url else ''}one of the two: {_EXAMPLE}")
        if self.env and self.url:
            raise ValueError("env is for a command; leave it out, or write headers for a url")
        if (self.token.get_secret_value() or self.headers) and self.command:
            raise ValueError("token and headers are for a url; a command runs in the container, where no secret goes")
        if self.token.get_secret_value() and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("has a token and a header Authorization, which are the same; leave one of them out")
        words = sum(map(len, self.command)) + sum(len(name) + len(value) for name, value in self.env.items())
        if words > MAX_SERVER:
            raise ValueError(f"command and env have more than {MAX_SERVER} characters; put them into a script")
        return self

    def serves(self, project: str) -> bool:
        """Whether the project of that name may use it."""
        return bool(project) and (not self.projects or project in self.projects)

    @property
    def host(self) -> str:
        """Where the gateway reaches it, for people: never more of the address than that."""
        return urlsplit(self.url).netloc

    def secret_headers(self) -> dict[str, str]:
        """What the gateway adds to each request."""
        token = self.token.get_secret_value()
        own = {name: value.get_secret_value() for name, value in self.headers.items()}
        return {**own, **({"Authorization": f"Bearer {token}"} if token else {})}


def servers_of(servers: Mapping[str, McpSection], project: str) -> tuple[McpServer, ...]:
    """What the agent of a project is told of its servers: nothing of where the gateway reaches them, nor a secret."""
    return tuple(
        McpServer(name=name, command=server.command, env=server.env)
        for name, server in sorted(servers.items())
        if server.serves(project)
    )
