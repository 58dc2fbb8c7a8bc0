"""A folder that others write in must not decide what the `huskies` command does there, nor with whom it talks."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.config import trust
from gateway.config.secrets import secrets_file
from gateway.config.settings import find_file, load, overlooked
from gateway.config.state_dir import cli_socket, lock_state
from gateway.errors import ConfigError, StateError
from gateway.testing import patience
from tests.support.huskies import Done, clean_environment
from tests.support.processes import die_with_parent

#: Somebody else; any number that is not ours.
OTHER = 54321


@dataclass
class Agents:
    """A project's folder, in which an agent has left a configuration, a state directory, and a gateway of its own."""

    folder: Path
    home: Path
    heard: list[str] = field(default_factory=list)

    async def types(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Done:
        """An operator types `huskies ARGUMENTS` in that folder."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *arguments),
            cwd=self.folder,
            env={**clean_environment(), "HOME": str(self.home), **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), 30 * patience())
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def answer(self, request: web.Request) -> web.Response:
        """What the agent's gateway says to whoever asks."""
        self.heard.append(f"{request.method} {request.path} {await request.text()}")
        ssh: dict[str, Any] = {"port": "1 -oProxyCommand=touch${IFS}ran", "options": ["-oProxyCommand=touch ran"]}
        return web.json_response({"name": "aa", "state": "ready", "engine": "docker", "path": "/", "ssh": ssh})


@pytest_asyncio.fixture
async def agents(tmp_path: Path) -> AsyncIterator[Agents]:
    made = Agents(tmp_path / "project", tmp_path / "home")
    state = made.folder / ".s"
    socket = cli_socket(state)
    for folder in (made.home, state, socket.parent):
        folder.mkdir(parents=True, mode=0o700)
    (made.folder / "config.toml").write_text(
        f'[gateway]\nstate_dir = "{state}"\n[access]\noperators = ["slack:UEVIL"]\n'
    )
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    yield made
    await runner.cleanup()


@pytest.mark.parametrize(
    "typed", [["ssh", "aa"], ["status", "aa"], ["projects"], ["secrets", "set", "all", "api_key"], ["send", "hello"]]
)
async def test_nothing_is_taken_from_the_current_folder(agents: Agents, typed: list[str]) -> None:
    done = await agents.types(*typed, stdin=b"sk-ant-canary")
    assert agents.heard == []
    assert not (agents.folder / "ran").exists()
    told = done.err.splitlines()
    assert told[0].startswith("huskies: ./config.toml is ignored")
    assert told[0].endswith(f"type: huskies --config config.toml {' '.join(typed)}")
    if typed[0] == "secrets":
        assert secrets_file(agents.home / ".huskies").exists()
    else:
        assert "type: huskies run" in told[1]


async def test_what_becomes_options_of_ssh_is_not_received(agents: Agents) -> None:
    """Also of a gateway that somebody asks on purpose."""
    done = await agents.types("--config", "config.toml", "ssh", "aa")
    assert len(agents.heard) == 1
    assert done.code == 1
    assert "of another version" in done.err
    assert not (agents.folder / "ran").exists()


async def test_a_file_that_the_environment_names_is_used(agents: Agents, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'[gateway]\nstate_dir = "{tmp_path / "mine"}"\n')
    done = await agents.types("projects", HUSKIES_CONFIG=str(file))
    assert f"no gateway is running on {tmp_path / 'mine'}" in done.err
    assert (
        "there is no configuration file nowhere.toml"
        in (await agents.types("projects", HUSKIES_CONFIG="nowhere.toml")).err
    )


def test_the_order_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HUSKIES_CONFIG", raising=False)
    here, named, home = (
        tmp_path / "config.toml",
        tmp_path / "named.toml",
        tmp_path / "home" / ".huskies" / "config.toml",
    )
    home.parent.mkdir(parents=True)
    for file in (here, named):
        file.touch()
    assert find_file(None) is None
    home.touch()
    assert find_file(None) == home
    monkeypatch.setenv("HUSKIES_CONFIG", str(named))
    assert find_file(None) == named
    assert find_file(here) == here
    assert overlooked(named, []) == "", "somebody has named one"
    monkeypatch.delenv("HUSKIES_CONFIG")
    assert "./config.toml is ignored" in overlooked(home, [])
    assert overlooked(here, []) == "", "it is the one that is used"
    here.unlink()
    assert overlooked(home, []) == ""


# --- another user of this host ---------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "folder" / "config.toml"
    made.parent.mkdir()
    made.write_text("[gateway]\n")
    made.chmod(0o600)
    return made


def needs_root() -> None:
    """Only root can make a file somebody else's; CI is root."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")


def test_a_configuration_of_another_user_is_refused(file: Path, tmp_path: Path) -> None:
    needs_root()
    load(file)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    load(link)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(ConfigError, match=f"belongs to another user .uid {OTHER}.*chown -h 0"):
        load(link)
    os.chown(file, OTHER, OTHER)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load(file)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_configuration_that_others_can_change_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod go-w"):
        load(file)


def test_a_folder_in_which_everybody_may_replace_it_is_no_place(file: Path) -> None:
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match=f"chmod o-w {file.parent}"):
        load(file)
    file.parent.chmod(0o1777)
    load(file)


def test_a_state_directory_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    needs_root()
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, OTHER, OTHER)
    with pytest.raises(StateError, match="belongs to another user"), lock_state(state):
        pytest.fail("it was used")
    assert list(state.iterdir()) == []
    with pytest.raises(StateError, match="belongs to another user"):
        (state / ".gateway").mkdir()
        cli_socket(state).touch()
        trust.check_socket(state, cli_socket(state))


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_state_directory_that_others_could_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """They may have left something in it: that it is closed from now on is not enough."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(StateError, match="other users could write"), lock_state(state):
        pytest.fail("it was used")
    state.chmod(0o755)
    with lock_state(state):
        assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", [".gateway", ".gateway/lock"])
def test_links_in_a_state_directory_lead_nowhere(tmp_path: Path, what: str) -> None:
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    (state / what).parent.mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    (state / what).symlink_to(elsewhere)
    with pytest.raises(StateError), lock_state(state):
        pytest.fail("it was used")
    assert not elsewhere.exists()


def test_a_socket_that_is_no_socket_is_not_asked(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with lock_state(state):
        pass
    with pytest.raises(FileNotFoundError):
        trust.check_socket(state, cli_socket(state))
    cli_socket(state).symlink_to(tmp_path / "other.sock")
    with pytest.raises(StateError, match="not the socket of a gateway of yours"):
        trust.check_socket(state, cli_socket(state))
