"""The configuration: TOML sections, each overridable by `HUSKIES_SECTION__KEY` in the environment.

`config.example.toml` documents every key; a test holds the two together. An unknown key is an error that names the
nearest known one: a typo must not silently mean the default.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config import trust
from gateway.config.sections import (
    AccessSection,
    AgentSection,
    BuildSection,
    DispatcherSection,
    EngineSection,
    GatewaySection,
    GitSection,
    Person,
    PlatformSection,
    ProjectsSection,
    Sender,
    TransportsSection,
    passwords_in,
)
from gateway.errors import ConfigError
from stacks.images import is_proxy

#: Names the configuration file, like `--config`, which comes before it.
CONFIG_VARIABLE = "HUSKIES_CONFIG"


class Settings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(env_prefix="HUSKIES_", env_nested_delimiter="__", extra="forbid", frozen=True)

    gateway: GatewaySection = GatewaySection()
    dispatcher: DispatcherSection = DispatcherSection()
    access: AccessSection = AccessSection()
    people: dict[Sender, Person] = {}
    git: GitSection = GitSection()
    engine: EngineSection = EngineSection()
    build: BuildSection = BuildSection()
    projects: ProjectsSection = ProjectsSection()
    agent: AgentSection = AgentSection()
    transports: TransportsSection = TransportsSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment beats the file."""
        return env_settings, init_settings

    @property
    def remote_transports(self) -> list[str]:
        """The transports that people elsewhere can reach."""
        sections = {name: getattr(self.transports, name) for name in TransportsSection.model_fields}
        return [name for name, section in sections.items() if isinstance(section, PlatformSection) and section.enabled]


def find_file(given: Path | None) -> Path | None:
    """The configuration file to use: `given`, the one that HUSKIES_CONFIG names, or that in the home; None: defaults.

    Never one of the current folder that nobody named: people work in folders in which agents write, and whoever writes
    the configuration decides what the command does.

    Raises ConfigError when the named one does not exist.
    """
    named = given or named_file()
    if named is not None:
        if not _is_file(named):
            raise ConfigError(f"there is no configuration file {named}; copy config.example.toml there")
        return named
    return home_file() if _is_file(home_file()) else None


def named_file() -> Path | None:
    """The file that the environment names."""
    named = os.environ.get(CONFIG_VARIABLE, "")
    return Path(named) if named else None


def home_file() -> Path:
    """The file that is used when nobody names one."""
    return Path("~/.huskies/config.toml").expanduser()


def overlooked(used: Path | None, typed: Sequence[str]) -> str:
    """A line about a config.toml in the current folder that is not used; empty where there is none, or one is named.

    `typed`: the arguments of the command, for the one to type instead.
    """
    here = Path("config.toml")
    try:
        if named_file() or not here.is_file() or (used is not None and here.samefile(used)):
            return ""
    except OSError:  # not ours to look at
        return ""
    return (
        "./config.toml is ignored: a repository may have brought it, or an agent written it. If it is yours, type: "
        f"{shlex.join(['huskies', '--config', 'config.toml', *typed])}"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # a folder on the way that may not be entered: there may well be one
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def load(file: Path | None) -> Settings:
    """Read the configuration.

    Raises:
        ConfigError: it cannot be used; one line that names the file, the key and what to write instead.
    """
    _check_environment()
    where = str(file) if file else "the environment"
    values: dict[str, Any] = {}
    if file is not None:
        import tomllib  # not needed for the defaults

        trust.check_file(file)
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{where} cannot be read: {error}") from error
        if file.stat().st_mode & 0o077 and _names_a_secret(values):
            raise ConfigError(f"{where} holds secrets that others can read; type: chmod 600 {file}")
    return validated(values, where)


def validated(values: dict[str, Any], where: str) -> Settings:
    """The configuration that `values` make, with the environment laid over them.

    Raises:
        ConfigError: one line that names `where`, the key and what to write instead.
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from error
    except ValueError as error:  # pydantic-settings: an environment variable that is not JSON
        raise ConfigError(f"the environment: {error}") from error


def _check_environment() -> None:
    """A section that does not exist would be overlooked by pydantic-settings; its keys are not."""
    for name in sorted(os.environ):
        section = name.removeprefix("HUSKIES_").partition("__")[0].lower()
        if name.startswith("HUSKIES_") and "__" in name and section not in Settings.model_fields:
            import difflib  # only for whoever mistyped

            near = difflib.get_close_matches(section, Settings.model_fields, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(Settings.model_fields)}"
            raise ConfigError(f"the environment: unknown section {section} in {name}; {hint}")


#: The keys whose values are secrets, in whatever section.
SECRET_KEYS = (
    *("api_key", "oauth_token", "access_token", "auth_token", "password", "token", "tokens"),
    *("bot_token", "app_token", "signing_secret", "database", "headers"),
)


def _names_a_secret(values: dict[str, Any]) -> bool:
    return any(
        (key in SECRET_KEYS and bool(value))
        or (isinstance(value, dict) and _names_a_secret(value))
        or (is_proxy(key) and isinstance(value, str) and bool(passwords_in(value)))
        for key, value in values.items()
    )


def _explain(error: ValidationError) -> str:
    import difflib  # only for a mistake in the file

    problems = []
    for detail in error.errors(include_input=False, include_url=False):
        path = [str(part) for part in detail["loc"]]
        key = ".".join(path)
        if detail["type"] == "extra_forbidden":
            known = known_keys(Settings, path[:-1])
            near = difflib.get_close_matches(path[-1], known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            problems.append(f"unknown key {key}; {hint}")
        elif detail["type"] == "missing":
            problems.append(f"{key} is missing")
        else:
            problems.append(f"{key}: {detail['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)


def known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that a section takes; `path` leads to it."""
    of_entry = False
    for part in path:
        if of_entry:  # the name of an entry: what it takes is known by now
            of_entry = False
            continue
        field = model.model_fields.get(part)
        options = [] if field is None else [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [t for t in options if isinstance(t, type) and issubclass(t, BaseModel)]
        if not inner:
            return []
        model, of_entry = inner[0], get_origin(field.annotation if field else None) is dict
    return list(model.model_fields)


def host_environment() -> dict[str, str]:
    """The part of the gateway's environment that a sled may see; no secret is in it."""
    wanted = ("PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
    return {name: os.environ[name] for name in wanted if name in os.environ}
