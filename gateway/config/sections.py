"""What each section of the configuration takes: its keys, their defaults, and what is wrong with a value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from gateway.config.mcp import McpSection, ServerName
from sled.protocol import MAX_SERVERS
from stacks.images import is_proxy

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::([1-9][0-9]{{0,4}}))?")


def _address(value: str) -> str:
    if not re.fullmatch(r"\S+:\d{1,5}", value) or int(value.rpartition(":")[2]) > 65535:
        raise ValueError("must be host:port, e.g. 127.0.0.1:8700")
    return value


def _public_url(value: str) -> str:
    """An address of ours that strangers may be sent to, without a slash at its end."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        plain = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        whole = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment or parts.username)
    except ValueError:  # a port that is not one
        plain = whole = False
    if not plain or not whole or not value.isascii():
        raise ValueError("must be an https:// address without a query, e.g. https://bot.example.org")
    return value.rstrip("/")


#: How each platform names an account, and what to write where an entry could never match.
_ACCOUNTS = {
    "matrix": (r"@[^:\s]+:\S+", "a Matrix id, with its server, e.g. matrix:@ana:example.org"),
    "slack": (r"[UW][A-Z0-9]+", "a member ID, not a name: in Slack, profile, ⋮, Copy member ID, e.g. slack:U012ABCDEF"),
    "whatsapp": (r"\+[1-9]\d{5,14}", "a phone number with + and its country code, e.g. whatsapp:+491700000000"),
}


def _sender(value: str) -> str:
    platform, _, account = value.partition(":")
    if not re.fullmatch(r"[a-z]+:\S+", value):
        near = next((name for name in _ACCOUNTS if platform.lower() == name), "")
        hint = _ACCOUNTS[near][1] if near else "transport:account, e.g. matrix:@ana:example.org"
        raise ValueError(f"“{value}” matches nobody: it must be {hint}")
    pattern, hint = _ACCOUNTS.get(platform, (r"\S+", ""))
    if not re.fullmatch(pattern, account):
        raise ValueError(f"“{value}” matches nobody: it must be {hint}")
    # WhatsApp leaves out the ninth digit of many Brazilian mobile numbers; with it, it is one and the same.
    return re.sub(r"^whatsapp:\+55(\d\d)([6-9]\d{7})$", r"whatsapp:+55\g<1>9\g<2>", value)


def _account_sid(value: str) -> str:
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", value):
        raise ValueError("must be the Account SID from Twilio's console: AC and 32 digits or letters a-f")
    return value


def _app_id(value: str) -> str:
    if not re.fullmatch(r"A[A-Z0-9]{5,}", value):
        raise ValueError(f"{value!r} is no app's id: it begins with A (the app's page in Slack, Copy app ID)")
    return value


def _content_sid(value: str) -> str:
    if value and not re.fullmatch(r"HX[0-9a-fA-F]{32}", value):
        raise ValueError("must be the Content SID of a template: HX and 32 digits or letters a-f")
    return value


def _phone_number(value: object) -> object:
    number = re.sub(r"[\s()-]", "", str(value)).removeprefix("whatsapp:")
    if not re.fullmatch(r"\+[1-9]\d{5,14}", number):
        raise ValueError("must be a phone number with its country code, e.g. +14155238886")
    return number


def _path(value: Path) -> Path:
    try:
        return value.expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"there is no home directory for {value}; write the whole path") from None


def is_git_host(text: str) -> bool:
    """Whether `text` is a host in lower case, with or without a port: `localhost:8443`."""
    match = _HOST.fullmatch(text)
    return match is not None and len(text) <= 253 and int(match[1] or 1) <= 65535


def _git_hosts(value: Any) -> Any:
    # What is wrong is not repeated: it may be a token that was written in the host's place.
    if isinstance(value, dict) and not all(isinstance(key, str) and is_git_host(key) for key in value):
        raise ValueError('each key must be a host in lower case, without https://, e.g. "git.example.org"')
    return value


def amount_of_memory(value: object) -> int:
    """Bytes, from `4g` and the like. Raises ValueError, which says how it is written."""
    found = re.fullmatch(r"(\d+)([kmgt]?)b?", str(value).strip().lower())
    amount = int(found[1]) * 1024 ** " kmgt".index(found[2] or " ") if found is not None else 0
    if amount < 64 * 2**20:
        raise ValueError("must be an amount of memory of at least 64m, e.g. 512m or 4g")
    return amount


def _ports(value: object) -> object:
    found = re.fullmatch(r"(\d{1,5})-(\d{1,5})", str(value).strip())
    if found is None or not 1024 <= int(found[1]) <= int(found[2]) <= 65535:
        raise ValueError("must be a range of ports above 1023, e.g. 22200-22999")
    return str(value).strip()


def _numbers(value: str) -> range:
    first, _, last = value.partition("-")
    return range(int(first), int(last) + 1)


def _user_ids(value: object) -> object:
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})", str(value).strip())
    if str(value).strip() and (found is None or not 65536 <= int(found[1]) <= int(found[2])):
        raise ValueError("must be a range of user ids from 65536 on, e.g. 70000-89999; or empty, to share one")
    return str(value).strip()


def _build_argument(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("must be a variable's name, e.g. PIP_INDEX_URL")
    if re.search(r"token|secret|password|passwd|credential|api_?key", name, re.IGNORECASE):
        raise ValueError(f"{name} looks like a secret, and a build argument stays readable in the image; leave it out")
    return name


UserPath = Annotated[Path, AfterValidator(_path)]
Sender = Annotated[str, AfterValidator(_sender)]


class Section(BaseModel):
    """A section takes the keys that it knows and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySection(Section):
    """The process itself."""

    bot_name: str = "huskies"
    state_dir: UserPath = Field(Path("~/.huskies"), validate_default=True)
    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8700"
    public_url: Annotated[str, AfterValidator(_public_url)] = ""
    keep_days: int = Field(90, ge=1)
    lead: str = ""
    lead_budget_usd_per_day: float = Field(0.0, ge=0)
    database: SecretStr = SecretStr("")
    database_file: str = ""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class DispatcherSection(Section):
    """How messages become turns."""

    coalesce_window_ms: int = Field(1500, ge=0)
    coalesce_max_ms: int = Field(10000, ge=0)
    queue_limit: int = Field(100, ge=1)
    mode: Literal["collect", "steer", "interrupt"] = "collect"
    runs_per_project: int = Field(1, ge=1)
    max_runs: int = Field(8, ge=1)
    told_after_s: float = Field(20.0, ge=0)


class AccessSection(Section):
    """Who may speak to the bot. An empty list means nobody."""

    operators: list[Sender] = []
    members: list[Sender] = []


class Person(Section):
    """How the agent should speak of somebody. `tz`: their time zone, such as `Europe/Berlin`; empty: this host's."""

    name: str
    pronouns: str = ""
    tz: str = ""

    @field_validator("tz")
    @classmethod
    def _known(cls, tz: str) -> str:
        if tz and tz not in available_timezones():
            raise ValueError(f"there is no time zone {tz!r}; write it as in 'Europe/Berlin'")
        return tz


class GitSection(Section):
    """The identity of commits made in projects, and what opens private repositories.

    `tokens`: per host as it stands in URLs, with its port if it has one. A value with a colon is user:password.
    """

    user_name: str = ""
    user_email: str = ""
    default_branch: str = "main"
    tokens: Annotated[dict[str, SecretStr], BeforeValidator(_git_hosts)] = {}


class EngineSection(Section):
    """What runs the sleds."""

    kind: Literal["auto", "docker", "process"] = "auto"
    allow_unsandboxed: bool = False
    memory: Annotated[int, BeforeValidator(amount_of_memory)] = 4 * 2**30
    cpus: float = Field(2.0, ge=0.01)
    pids: int = Field(1024, ge=64)
    reconcile_s: float = Field(10.0, gt=0)


def has_credentials(text: str) -> bool:
    """Whether a URL in `text` names a user: what stands there may be a token alone."""
    return re.search(r"://[^/@\s]+@", text) is not None


def passwords_in(address: str) -> list[str]:
    """The password in a proxy's address, as written there and as meant; a user's name alone may be a token."""
    found = re.search(r"(?:^|://)([^/@\s]+)@", address)
    user, _, password = found[1].partition(":") if found is not None else ("", "", "")
    return [each for each in dict.fromkeys((password or user, unquote(password or user))) if each]


class BuildSection(Section):
    """What every image build gets. An empty path means none."""

    base_image: str = Field("debian:trixie-slim", min_length=1)
    ca_certificates: str = ""
    apt_sources: str = ""
    build_args: dict[Annotated[str, AfterValidator(_build_argument)], str] = {}

    @field_validator("build_args")
    @classmethod
    def _no_passwords(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not is_proxy(name) and has_credentials(text):
                raise ValueError(f"{name} holds a password or token, and a build argument stays readable in the image")
            if text.lower().startswith("socks") and passwords_in(text):
                raise ValueError(f"{name} is a SOCKS proxy with a password; builds need its http:// address")
        return value


class ProjectsSection(Section):
    """Where sources live, and what SSH clients connect to."""

    root: UserPath = Field(Path("~/huskies"), validate_default=True)
    allowed_roots: list[UserPath] = []
    ssh_ports: Annotated[str, BeforeValidator(_ports)] = "22200-22999"
    user_ids: Annotated[str, BeforeValidator(_user_ids)] = "70000-89999"
    host_user: str = ""

    @property
    def port_range(self) -> range:
        """`ssh_ports`, as numbers."""
        return _numbers(self.ssh_ports)

    @property
    def user_range(self) -> range:
        """`user_ids`, as numbers; empty where projects share a user."""
        return _numbers(self.user_ids) if self.user_ids else range(0)


class AgentSection(Section):
    """What answers."""

    kind: Literal["auto", "claude", "scripted"] = "auto"
    model: str = ""
    permissions: Literal["auto", "ask", "allow"] = "auto"
    permission_timeout_s: float = Field(120.0, gt=0)
    budget_usd_per_project_day: float = Field(0.0, ge=0)
    prices: dict[str, tuple[float, float]] = {}
    silence_timeout_s: float = Field(420.0, gt=0)
    turn_limit_s: float = Field(3600.0, gt=0)
    warm_s: float = Field(600.0, ge=0)
    api_key: SecretStr = SecretStr("")
    oauth_token: SecretStr = SecretStr("")
    api_base_url: str = "https://api.anthropic.com"
    mcp: dict[ServerName, McpSection] = Field({}, max_length=MAX_SERVERS)


class ConsoleSection(Section):
    """The terminal that the gateway runs in."""

    enabled: bool = True


class PlatformSection(Section):
    """A platform that people elsewhere can reach."""

    enabled: bool = True


class MatrixSection(PlatformSection):
    """A Matrix account of the bot's own."""

    homeserver: str
    user_id: str
    access_token: SecretStr = SecretStr("")
    password: SecretStr = SecretStr("")
    device_id: str = ""
    encryption: bool = True


class SlackSection(PlatformSection):
    """A Slack app of the bot's own, in one workspace."""

    mode: Literal["socket", "http"] = "socket"
    bot_token: SecretStr
    app_token: SecretStr = SecretStr("")
    signing_secret: SecretStr = SecretStr("")
    api_base_url: str = "https://slack.com/api/"
    apps: list[Annotated[str, AfterValidator(_app_id)]] = []

    @model_validator(mode="after")
    def _has_what_its_mode_needs(self) -> SlackSection:
        if not self.bot_token.get_secret_value().startswith("xoxb-"):
            raise ValueError("bot_token must begin with xoxb- (OAuth & Permissions, Bot User OAuth Token)")
        if self.mode == "socket" and not self.app_token.get_secret_value().startswith("xapp-"):
            raise ValueError("app_token must begin with xapp- (Basic Information, App-Level Tokens, connections:write)")
        if self.mode == "http" and not self.signing_secret.get_secret_value():
            raise ValueError('signing_secret is missing: mode = "http" needs it (Basic Information, Signing Secret)')
        return self


class WhatsAppSection(PlatformSection):
    """A WhatsApp sender of a Twilio account."""

    account_sid: Annotated[str, AfterValidator(_account_sid)]
    auth_token: SecretStr = Field(min_length=1)
    from_number: Annotated[str, BeforeValidator(_phone_number)]
    api_base_url: Annotated[str, AfterValidator(_public_url)] = "https://api.twilio.com"
    template_sid: Annotated[str, AfterValidator(_content_sid)] = ""
    quick_replies: dict[str, Annotated[str, AfterValidator(_content_sid)]] = {}


class TransportsSection(Section):
    """A platform whose section is present is on."""

    console: ConsoleSection = ConsoleSection()
    matrix: MatrixSection | None = None
    slack: SlackSection | None = None
    whatsapp: WhatsAppSection | None = None
