"""Where this host's Docker engine is: as Docker's own command line finds it, and the usual places beside.

An engine of another machine is refused: it could not mount this one's folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import EngineError

_SCHEME = "unix://"
_SYSTEM = "/var/run/docker.sock"
#: Where others put their sockets, below the home: Docker Desktop, Colima, OrbStack; and what starts each.
_USUAL = (
    (".docker/run/docker.sock", "Start Docker Desktop"),
    (".docker/desktop/docker.sock", "Start Docker Desktop"),
    (".colima/default/docker.sock", "Start it (`colima start`)"),
    (".orbstack/run/docker.sock", "Start OrbStack"),
)
_BY_SYSTEMD = "Start it (`systemctl start docker`)"


@dataclass(frozen=True, slots=True)
class Place:
    """An address, what names it, and what starts an engine there."""

    address: str
    why: str
    start: str

    @property
    def path(self) -> str:
        """Its socket, for a local engine."""
        return self.address.removeprefix(_SCHEME)


def find() -> Place:
    """Where the engine is: DOCKER_HOST, else Docker's current context, else the first usual socket that there is.

    Raises EngineError for one on another machine.
    """
    place = _named() or next((place for place in usual() if Path(place.path).exists()), usual()[0])
    if not place.address.startswith(_SCHEME):
        raise EngineError(
            f"{place.why} is {place.address}, but huskies needs an engine on this host: {_instead(place)}, "
            "or set engine.kind to process"
        )
    return place


def usual() -> list[Place]:
    """The sockets that are looked at where nothing names one."""
    home = Path(os.environ.get("HOME") or "/nonexistent")
    places = [Place(f"{_SCHEME}{_SYSTEM}", _SYSTEM, _BY_SYSTEMD)]
    places += [Place(f"{_SCHEME}{home / path}", f"~/{path}", start) for path, start in _USUAL]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        path = f"{runtime}/docker.sock"
        places.append(Place(f"{_SCHEME}{path}", path, "Start it (`systemctl --user start docker`)"))
    return places


def is_wanted() -> bool:
    """Whether this host is one with Docker, be it running or not."""
    if shutil.which("docker") or shutil.which("dockerd"):
        return True
    try:
        return _named() is not None or any(Path(place.path).exists() for place in usual())
    except EngineError:  # a context, though none that names an engine
        return True


def looked_at() -> str:
    """What was looked at, for people."""
    try:
        named = _named()
    except EngineError as error:
        return str(error)
    places = [f"{named.why} ({named.address})"] if named is not None else [place.why for place in usual()]
    return ", ".join(places)


def _named() -> Place | None:
    """What the environment, or the current context of Docker's command line, says."""
    if host := os.environ.get("DOCKER_HOST"):
        return Place(host, "DOCKER_HOST", _start_of(host))
    name = os.environ.get("DOCKER_CONTEXT") or str(_read(_folder() / "config.json").get("currentContext") or "default")
    if name == "default":
        return None
    meta = _read(_folder() / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json")
    endpoints = meta.get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    if not isinstance(host, str) or not host:
        raise EngineError(f"Docker's context {name} names no engine: choose another one with `docker context use`")
    return Place(host, f"Docker's context {name}", _start_of(host))


def _start_of(address: str) -> str:
    """What starts the engine at an address."""
    return next((start for path, start in _USUAL if address.endswith(path)), _BY_SYSTEMD)


def _instead(place: Place) -> str:
    if place.why == "DOCKER_HOST":
        return "unset DOCKER_HOST"
    return "choose another one with `docker context use`"


def _folder() -> Path:
    given = os.environ.get("DOCKER_CONFIG")
    return Path(given) if given else Path(os.environ.get("HOME") or "/nonexistent") / ".docker"


def _read(file: Path) -> dict[str, object]:
    """A file of Docker's own; nothing where there is none, or none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
