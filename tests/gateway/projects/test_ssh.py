"""SSH: keys that stay, lines that work as they are pasted, and a login that proves it."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from gateway.engine import ProjectPaths, SledSpec, Way
from gateway.engine.container import group, passwd
from gateway.errors import EngineError
from gateway.projects import ssh
from gateway.projects.ssh import answers, config_file, forget_client_key, furnish, include_line, write_config
from gateway.testing import patience
from tests.support.ssh_engine import SshServer

ROOT = os.geteuid() == 0
OWNER = (4321, 4322) if ROOT else (os.geteuid(), os.getegid())


def make_spec(folder: Path, port: int = 22200, name: str = "demo") -> SledSpec:
    return SledSpec(
        project=name,
        paths=ProjectPaths.of(folder, name),
        source=folder / "src",
        token="t",
        oauth=False,
        owner=OWNER,
        ssh_port=port,
    )


@pytest.fixture
def spec(tmp_path: Path, unused_port: int) -> SledSpec:
    return make_spec(tmp_path / "state", unused_port)


def files(spec: SledSpec) -> dict[str, tuple[int, int, bytes]]:
    """Everything that a project has on disk: its inode, when it changed, and what it holds."""
    found = {}
    for path in sorted(spec.paths.folder.rglob("*")):
        status = path.lstat()
        found[path.name] = (status.st_ino, status.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


def public(private: Path) -> bytes:
    """The public half of a key, as the system's own tool sees it."""
    return subprocess.run(["ssh-keygen", "-y", "-f", private], capture_output=True, check=True).stdout


# --- what is made ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_furnish_makes_all_that_a_container_mounts(spec: SledSpec, umask: int) -> None:
    spec.paths.folder.parent.mkdir()
    before = os.umask(umask)
    try:
        await furnish(spec)
    finally:
        os.umask(before)
    paths = spec.paths
    modes = {path.name: path.stat().st_mode & 0o7777 for path in [paths.folder, *paths.folder.iterdir()]}
    assert modes == {
        "demo": 0o700,
        "home": 0o700,
        "wire": 0o700,
        "id_ed25519": 0o600,
        "id_ed25519.pub": 0o644,
        "ssh_host_ed25519_key": 0o600,
        "known_hosts": 0o644,
        "passwd": 0o644,
        "group": 0o644,
    }
    assert paths.passwd.read_text() == passwd(OWNER)
    assert paths.group.read_text() == group(OWNER)
    assert public(paths.client_key).split()[:2] == paths.authorized_keys.read_bytes().split()[:2]
    key = public(paths.host_key).decode().split()
    assert key[0] == "ssh-ed25519"
    port = spec.ssh_port
    assert paths.known_hosts.read_text() == "".join(
        f"{host} {key[0]} {key[1]}\n" for host in ("huskies-demo", f"[127.0.0.1]:{port}")
    )
    known = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{port}", "-f", paths.known_hosts], capture_output=True, check=False
    )
    assert known.returncode == 0, "the system's ssh finds it"


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
async def test_what_the_container_uses_belongs_to_its_user(spec: SledSpec) -> None:
    await furnish(spec)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in spec.paths.folder.iterdir()}
    theirs = {name for name, owner in owners.items() if owner == OWNER}
    assert theirs == {"home", "wire", "ssh_host_ed25519_key"}, "sshd reads its own key as that user"
    assert {owner for name, owner in owners.items() if name not in theirs} == {(0, 0)}
    os.chown(spec.paths.home, 0, 0)
    await furnish(spec)
    assert spec.paths.home.stat().st_uid == OWNER[0], "put right at the next start"


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_a_link_is_given_away_and_not_what_it_leads_to(spec: SledSpec, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch()
    link.symlink_to(target)
    ssh.own(spec, link)
    assert (target.stat().st_uid, link.lstat().st_uid) == (0, OWNER[0])


async def test_a_second_time_nothing_is_touched(spec: SledSpec) -> None:
    """A container that has mounted a file would keep the one that was replaced."""
    await furnish(spec)
    before = files(spec)
    await furnish(spec)
    assert files(spec) == before
    assert not list(spec.paths.folder.glob("*.partial"))


async def test_a_forgotten_client_key_is_made_anew_and_the_host_stays_known(spec: SledSpec) -> None:
    await furnish(spec)
    before = files(spec)
    forget_client_key(spec.paths)
    forget_client_key(spec.paths)
    assert not spec.paths.client_key.exists()
    assert not spec.paths.authorized_keys.exists()
    await furnish(spec)
    after = files(spec)
    assert {name for name in after if after[name] != before[name]} == {"id_ed25519", "id_ed25519.pub"}
    assert after["id_ed25519"][2] != before["id_ed25519"][2]


@pytest.mark.parametrize("half", ["client_key", "authorized_keys"])
async def test_half_a_pair_is_made_whole(spec: SledSpec, half: str) -> None:
    await furnish(spec)
    getattr(spec.paths, half).unlink()
    (spec.paths.folder / "id_ed25519.partial").write_text("of a gateway that was killed")
    await furnish(spec)
    assert public(spec.paths.client_key).split()[:2] == spec.paths.authorized_keys.read_bytes().split()[:2]
    assert spec.paths.client_key.stat().st_mode & 0o777 == 0o600


async def test_what_follows_from_the_project_follows_it(spec: SledSpec) -> None:
    await furnish(spec)
    before = files(spec)
    owner = (OWNER[0] + 1, OWNER[1] + 1) if ROOT else OWNER
    await furnish(replace(spec, ssh_port=spec.ssh_port + 1, owner=owner))
    after = files(spec)
    changed = {name for name in after if after[name][2] != before[name][2]}
    assert changed == {"known_hosts", "passwd", "group"} if ROOT else {"known_hosts"}
    assert f"[127.0.0.1]:{spec.ssh_port + 1} ssh-ed25519 " in spec.paths.known_hosts.read_text()


async def test_a_host_key_that_is_none_is_told_and_kept(spec: SledSpec) -> None:
    await furnish(spec)
    spec.paths.host_key.write_text("")
    for use in (lambda: furnish(spec), lambda: asyncio.to_thread(ssh.fingerprint, spec.paths)):
        with pytest.raises(EngineError, match="ssh_host_ed25519_key is not a host key"):
            await use()
    assert spec.paths.host_key.read_text() == ""


async def test_the_fingerprint_is_what_a_client_shows(spec: SledSpec) -> None:
    await furnish(spec)
    shown = subprocess.run(["ssh-keygen", "-lf", spec.paths.host_key], capture_output=True, text=True, check=True)
    assert ssh.fingerprint(spec.paths) == shown.stdout.split()[1]
    with pytest.raises(OSError, match="No such file"):
        ssh.fingerprint(ProjectPaths.of(spec.paths.folder, "nothing"))


# --- what people paste -----------------------------------------------------------------------------------------------


def way_to(spec: SledSpec) -> Way:
    """The way into the project of a spec."""
    return Way.to(spec.paths, spec.project, spec.ssh_port)


PLAIN = way_to(make_spec(Path("/state")))
SPACED = way_to(make_spec(Path("/my state")))


def test_the_line() -> None:
    assert PLAIN.line == "ssh huskies@127.0.0.1 -p 22200 -i /state/demo/id_ed25519"
    assert shlex.split(SPACED.line) == [*("ssh", "huskies@127.0.0.1", "-p", "22200"), "-i", "/my state/demo/id_ed25519"]


def test_the_block() -> None:
    assert SPACED.block == (
        "Host huskies-demo\n"
        "    HostName 127.0.0.1\n"
        "    Port 22200\n"
        "    User huskies\n"
        '    IdentityFile "/my state/demo/id_ed25519"\n'
        "    IdentitiesOnly yes\n"
        "    HostKeyAlias huskies-demo\n"
        '    UserKnownHostsFile "/my state/demo/known_hosts"\n'
        "    StrictHostKeyChecking yes\n"
        "    ForwardAgent no\n"
        "    ForwardX11 no\n"
    )


def understood(*arguments: str) -> dict[str, str]:
    """What the system's `ssh` makes of its arguments."""
    done = subprocess.run(["ssh", "-G", *arguments], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


WANTED = {
    "hostname": "127.0.0.1",
    "port": "22200",
    "user": "huskies",
    "identitiesonly": "yes",
    "hostkeyalias": "huskies-demo",
    "stricthostkeychecking": "true",
}


@pytest.mark.parametrize("folder", ["plain", "with spaces", "with 'quotes'", "a:b,c"])
def test_the_systems_ssh_understands_file_options_and_include_line(tmp_path: Path, folder: str) -> None:
    state = tmp_path / folder
    state.mkdir()
    ways = [way_to(make_spec(state)), way_to(make_spec(state, 22201, "other"))]
    write_config(state, ways)
    own = tmp_path / "config"
    own.write_text(f"{include_line(state)}\nHost *\n    User somebody\n")
    wanted = {
        **WANTED,
        "identityfile": f"{state}/demo/id_ed25519",
        "userknownhostsfile": f"{state}/demo/known_hosts",
    }
    for arguments in (
        ["-F", str(config_file(state)), "huskies-demo"],
        ["-F", str(own), "huskies-demo"],
        ["-F", "none", *ways[0].options],
    ):
        assert understood(*arguments).items() >= wanted.items(), arguments
    assert understood("-F", str(own), "huskies-other")["port"] == "22201"
    assert understood("-F", str(own), "elsewhere")["user"] == "somebody"


def test_the_file_is_written_whole_and_only_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, [PLAIN])
    file = config_file(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert include_line(tmp_path) in file.read_text().splitlines()[0]
    before = file.stat()
    write_config(tmp_path, [PLAIN])
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with file.open() as reader:
        write_config(tmp_path, [PLAIN, SPACED])
        assert reader.read().count("Host huskies-demo\n") == 1, "who was reading it reads on in the old one"
    assert file.read_text().count("Host huskies-demo\n") == 2
    assert [path.name for path in file.parent.iterdir()] == ["config"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    text = file.read_text()
    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space left"):
        write_config(tmp_path, [])
    assert file.read_text() == text
    monkeypatch.undo()
    write_config(tmp_path, [])
    assert "Host huskies" not in file.read_text()


# --- the login -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(spec: SledSpec) -> SshServer:
    await furnish(spec)
    return SshServer(spec)


async def refused(way: Way, within_s: float = 0.5) -> str:
    """What is told of a login that does not succeed; it takes as long as it may and no longer."""
    began = time.monotonic()
    with pytest.raises(EngineError) as caught:
        await answers(way, within_s)
    assert within_s * 0.8 <= time.monotonic() - began < within_s + 2 * patience()
    told = str(caught.value)
    assert told.startswith(f"SSH on port {way.port} of 127.0.0.1 did not accept the project's key within ")
    return told.partition(": ")[2]


async def test_the_projects_key_is_let_in(server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no-agent"))
    async with server:
        await answers(way_to(server.spec), 10)
    assert server.commands == ["true"]


async def test_another_host_key_is_not_trusted(server: SshServer, tmp_path: Path) -> None:
    """Whoever took the port while the project was down."""
    server.host_key = tmp_path / "another"
    server.host_key.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    async with server:
        assert "Host key is not trusted" in await refused(way_to(server.spec))
    assert server.commands == []


async def test_a_key_that_the_server_does_not_know_is_told(server: SshServer) -> None:
    async with server:
        forget_client_key(server.spec.paths)
        await furnish(server.spec)
        assert "Permission denied" in await refused(way_to(server.spec))


async def test_a_shell_that_fails_is_told_in_its_own_words(server: SshServer) -> None:
    server.exit_status = 127
    async with server:
        assert await refused(way_to(server.spec)) == "`true` ended with 127: so it is\n"
    assert len(server.commands) > 1, "it may be on its way up: it is asked again"


async def test_a_command_that_hangs_is_not_waited_for(server: SshServer) -> None:
    server.hangs = True
    async with server:
        assert await refused(way_to(server.spec)) == "it did not answer"


async def test_a_port_that_says_nothing_is_not_waited_for(server: SshServer) -> None:
    with socket.create_server(("127.0.0.1", server.spec.ssh_port)):
        assert await refused(way_to(server.spec)) == "it did not answer"


async def test_nobody_there(server: SshServer) -> None:
    assert "Connect call failed" in await refused(way_to(server.spec), 0.2)


@pytest.mark.parametrize("file", ["client_key", "known_hosts"])
async def test_files_that_are_no_keys_are_told_too(server: SshServer, file: str) -> None:
    getattr(server.spec.paths, file).write_text("huskies-demo\n")
    async with server:
        assert await refused(way_to(server.spec), 0.2)


async def test_a_server_that_is_late_is_waited_for(server: SshServer) -> None:
    asked = asyncio.create_task(answers(way_to(server.spec), 20))
    tries = 0
    while tries < 3:  # somebody else's on the port first, who hangs up
        with socket.create_server(("127.0.0.1", server.spec.ssh_port)) as early:
            early.setblocking(False)
            connection, _ = await asyncio.get_running_loop().sock_accept(early)
            connection.close()
            tries += 1
    assert not asked.done()
    async with server:
        await asked
    assert server.commands == ["true"]


@pytest.mark.parametrize("folder", ["with spaces", "half 50%d 'off'"])
async def test_the_systems_ssh_gets_in_by_every_way(tmp_path: Path, unused_port: int, folder: str) -> None:
    spec = make_spec(tmp_path / folder, unused_port)
    await furnish(spec)
    way, server = way_to(spec), SshServer(spec)
    write_config(tmp_path / folder, [way])
    pinned = ["-o", f"UserKnownHostsFile={tmp_path}/hosts", "-o", "StrictHostKeyChecking=accept-new"]
    ways = [["ssh", "-F", str(config_file(tmp_path / folder)), way.alias], ["ssh", "-F", "none", *way.options]]
    if "%" not in folder:  # `ssh -i` replaces those as well, and there is no writing around it
        ways.append([*shlex.split(way.line), "-F", "none", *pinned])
    async with server:
        for command in ways:
            process = await asyncio.create_subprocess_exec(
                *command, "-o", "BatchMode=yes", "whoami", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            _, told = await asyncio.wait_for(process.communicate(), 20 * patience())
            assert (process.returncode, b"so it is\n" in told) == (0, True), (command, told)
    assert server.commands == ["whoami"] * len(ways)
