"""Where the Docker engine is: what Docker's own command line says, and the usual places."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from gateway.engine.docker import address
from gateway.errors import EngineError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a home of its own, and nothing of Docker's."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(address, "_SYSTEM", str(tmp_path / "system.sock"))
    return tmp_path


def context(folder: Path, name: str, host: object, *, current: bool = True) -> None:
    """A context as `docker context create` writes it."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    if current:
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))


def test_nothing_says_where(home: Path) -> None:
    place = address.find()
    assert (place.path, place.start) == (str(home / "system.sock"), "Start it (`systemctl start docker`)")
    assert not address.is_wanted()
    assert address.looked_at().startswith(f"{home}/system.sock, ~/.docker/run/docker.sock, ")


def test_the_current_context(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = {name: f"unix://{home}/{name}.sock" for name in ("colima", "other", "third")}
    context(home / ".docker", "colima", sockets["colima"])
    context(home / ".docker", "other", sockets["other"], current=False)
    assert address.find() == address.Place(
        sockets["colima"], "Docker's context colima", "Start it (`systemctl start docker`)"
    )
    assert address.is_wanted()
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert address.find().address == sockets["other"]
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert address.find().path == str(home / "system.sock")
    monkeypatch.delenv("DOCKER_CONTEXT")
    context(home / "elsewhere", "third", sockets["third"])
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "elsewhere"))
    assert address.find().address == sockets["third"]
    monkeypatch.setenv("DOCKER_HOST", "unix:///mine.sock")
    assert address.find().path == "/mine.sock"
    assert address.looked_at() == "DOCKER_HOST (unix:///mine.sock)"


@pytest.mark.parametrize("host", ["ssh://ana@build", "tcp://127.0.0.1:2375"])
def test_a_context_of_another_machine_is_refused(home: Path, host: str) -> None:
    context(home / ".docker", "far", host)
    with pytest.raises(EngineError) as caught:
        address.find()
    assert f"Docker's context far is {host}" in str(caught.value)
    assert "`docker context use`, or set engine.kind to process" in str(caught.value)
    assert address.is_wanted()


@pytest.mark.parametrize("host", [None, 3, ""])
def test_a_context_without_an_engine(home: Path, host: object) -> None:
    context(home / ".docker", "odd", host)
    with pytest.raises(EngineError, match="context odd names no engine"):
        address.find()
    assert address.is_wanted()
    assert "names no engine" in address.looked_at()


@pytest.mark.parametrize("text", ["{", "[]", '{"currentContext": ""}', '{"auths": {}}', "\0"])
def test_an_odd_configuration_says_nothing(home: Path, text: str) -> None:
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text(text)
    assert address.find().path == str(home / "system.sock")


@pytest.mark.parametrize(
    ("path", "start"),
    [
        (".docker/run/docker.sock", "Start Docker Desktop"),
        (".colima/default/docker.sock", "Start it (`colima start`)"),
        (".orbstack/run/docker.sock", "Start OrbStack"),
    ],
)
def test_the_usual_sockets(home: Path, path: str, start: str) -> None:
    (home / path).parent.mkdir(parents=True)
    (home / path).touch()
    assert (address.find().path, address.find().start) == (str(home / path), start)
    assert address.is_wanted()
    (home / "system.sock").touch()
    assert address.find().path == str(home / "system.sock"), "the system's comes first"


def test_a_socket_of_a_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    (home / "docker.sock").touch()
    assert address.find().start == "Start it (`systemctl --user start docker`)"


def test_where_dockers_command_line_is_its_engine_is_waited_for(home: Path) -> None:
    (home / "bin").mkdir()
    (home / "bin" / "docker").touch(mode=0o755)
    assert address.is_wanted()
