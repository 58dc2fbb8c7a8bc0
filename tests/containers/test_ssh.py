"""SSH into a project, with the programs that people use: all that an editor asks of a server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.engine import SledSpec
from gateway.engine.container import Resources
from gateway.engine.docker import DockerEngine
from gateway.testing import patience
from tests.support import lsp
from tests.support.containers import NO_PROXY, PORTS, ContainerGateway, shell
from tests.support.processes import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

#: What each kind of session prints of the place it finds itself in.
WHERE = "pwd; command -v uv; git config user.email; umask; echo $SSL_CERT_FILE"
THERE = ["/workspace", "/usr/local/bin/uv", "test@example.org", "0022", "/etc/ssl/certs/ca-certificates.crt"]


@contextlib.asynccontextmanager
async def forwarding(command: list[str], ready: Path | int) -> AsyncIterator[None]:
    """An `ssh -N` that forwards, from when its end on this side is there."""
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        await until(lambda: ready.exists() if isinstance(ready, Path) else listens(ready), 20)
        yield
    finally:
        process.kill()
        await process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send a line and read one back."""
    writer.write(b"hello\n")
    try:
        return await asyncio.wait_for(reader.readline(), 20 * patience())
    finally:
        writer.close()


async def test_every_kind_of_session(gateway: ContainerGateway, tmp_path: Path, unused_port: int) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo --stack python", "p")
    (image,) = [part for part in await gateway.get("/doctor") if part["name"] == "image"]
    assert image["text"] == "ok", "what all projects begin with is there, whatever this one adds"

    # A command; a login shell with a terminal; the shell on a pipe that VS Code starts its server with.
    assert (await gateway.logs_in("demo", WHERE)).split() == THERE
    assert (await gateway.logs_in("demo", "bash", stdin=WHERE.encode())).split() == THERE
    assert (await gateway.logs_in("demo", "bash -l", stdin=WHERE.encode())).split() == THERE
    code, output = await shell(*gateway.ssh("demo", "-tt"), stdin=f"stty -echo; PS1=; {WHERE}; tty; exit 7\n".encode())
    assert code == 7, output
    lines = output.replace("\r", "").splitlines()
    # A terminal's control sequences may stand before what was printed.
    assert all(any(line.endswith(wanted) for line in lines) for wanted in THERE), output
    assert "/dev/pts/0" in lines
    # What a terminal inside an editor starts is plain bash, and stays where the editor put it.
    assert await gateway.logs_in("demo", "mkdir -p sub && cd sub && $SHELL -c pwd") == "/workspace/sub\n"

    # What an editor does first with a language server; and a hello-world, as the project's user.
    answer = await lsp.initialize([*gateway.ssh("demo"), "basedpyright-langserver --stdio"], "/workspace")
    assert answer["capabilities"]
    await gateway.logs_in("demo", "printf 'def test_sum():\\n    assert 1 + 1 == 2\\n' > test_sum.py")
    assert "1 passed" in await gateway.logs_in("demo", "python -m pytest -q test_sum.py && ruff check test_sum.py")

    await copies(gateway, tmp_path)
    await forwards(gateway, tmp_path, unused_port)

    # Many at once over one connection, as editors do it.
    control = ["-o", f"ControlPath={tmp_path}/control", "-o", "ControlMaster=auto", "-o", "ControlPersist=30"]
    done = await asyncio.gather(*(shell(*gateway.ssh("demo", *control), f"echo {n}") for n in range(20)))
    assert sorted(int(output.split()[-1]) for _, output in done) == list(range(20))
    await shell(*gateway.ssh("demo", *control, "-O", "exit"))

    # Nobody else gets in: not without the key, not as root.
    stranger = tmp_path / "stranger"
    assert (await shell("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)))[0] == 0
    own_key = str(gateway.paths("demo").client_key)
    code, output = await shell(*(str(stranger) if part == own_key else part for part in gateway.ssh("demo")), "true")
    assert code == 255, output
    assert "Permission denied (publickey)" in output
    as_root = [part.replace("huskies@", "root@") for part in gateway.ssh("demo")]
    code, output = await shell(*as_root, "true")
    assert code == 255, output


async def copies(gateway: ContainerGateway, tmp_path: Path) -> None:
    """Scp and sftp: what is relative is below the source."""
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 40_000)
    ssh = gateway.ssh("demo")
    port = ssh[ssh.index("-p") + 1]
    options = [*ssh[ssh.index("-i") :]]
    code, output = await shell("scp", "-P", port, *options, str(big), "huskies@127.0.0.1:big")
    assert code == 0, output
    copied = gateway.projects / "demo" / "big"
    assert copied.read_bytes() == big.read_bytes()
    assert copied.stat().st_uid == copied.parent.stat().st_uid == 70000
    batch = f"pwd\nrename big bigger\nget bigger {tmp_path}/back\nmkdir folder\n".encode()
    code, output = await shell("sftp", "-P", port, *options, "-b", "-", "huskies@127.0.0.1", stdin=batch)
    assert code == 0, output
    assert "working directory: /workspace" in output
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


async def forwards(gateway: ContainerGateway, tmp_path: Path, port: int) -> None:
    """-L, -R and sockets: how editors reach their servers, and browsers a dev server."""
    echo = (
        "import socketserver as s\nclass H(s.StreamRequestHandler):\n"
        "    def handle(self): self.wfile.write(self.rfile.readline())\n"
    )
    (gateway.projects / "demo" / "echo_tcp.py").write_text(
        f"{echo}s.TCPServer(('127.0.0.1', 3000), H).serve_forever()\n"
    )
    (gateway.projects / "demo" / "echo_unix.py").write_text(
        f"{echo}s.UnixStreamServer('/tmp/echo.sock', H).serve_forever()\n"
    )
    for name in ("echo_tcp", "echo_unix"):
        await gateway.logs_in("demo", f"setsid python3 {name}.py > /dev/null 2>&1 < /dev/null & sleep 0")
    listening = "[ -S /tmp/echo.sock ] && (exec 3<>/dev/tcp/127.0.0.1/3000)"
    await gateway.logs_in("demo", f"until {listening}; do sleep 0.05; done 2> /dev/null")
    here = tmp_path / "here.sock"
    async with forwarding(gateway.ssh("demo", "-N", "-L", f"{port}:127.0.0.1:3000"), port):
        assert await ask(*await asyncio.open_connection("127.0.0.1", port)) == b"hello\n"
    async with forwarding(gateway.ssh("demo", "-N", "-L", f"{here}:/tmp/echo.sock"), here):
        assert await ask(*await asyncio.open_unix_connection(here)) == b"hello\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"from this side: " + await reader.readline())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        local = server.sockets[0].getsockname()[1]
        ask_there = "exec 3<>/dev/tcp/127.0.0.1/3001; echo hello >&3; cat <&3"
        code, output = await shell(*gateway.ssh("demo", "-R", f"3001:127.0.0.1:{local}"), ask_there)
        assert (code, output) == (0, "from this side: hello\n")


async def test_huskies_ssh_becomes_the_systems_ssh(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo", "p")
    code, output = await gateway.command("ssh", "demo", "--", "echo", "$(pwd)", "&&", "exit 3")
    assert (code, output) == (3, "/workspace\n")
    code, output = await gateway.command("ssh-config")
    assert code == 0
    assert "Host huskies-demo\n" in output
    code, output = await gateway.command("status", "demo")
    assert f"ssh: ssh huskies@127.0.0.1 -p {PORTS[0]} -i {gateway.paths('demo').client_key}" in output
    await gateway.said("down demo", "d")
    code, output = await gateway.command("ssh", "demo")
    assert code == 1
    assert "up demo" in output


async def test_a_stop_leaves_an_editors_shell_alone(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo", "p")
    editor = await asyncio.create_subprocess_exec(
        *gateway.ssh("demo"), "echo there; exec sleep 300", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert editor.stdout is not None
        assert await asyncio.wait_for(editor.stdout.readline(), 20 * patience()) == b"there\n"
        run = asyncio.create_task(gateway.send("@@run touch begun; setsid sleep 301 & sleep 302", "m"))
        await until((gateway.projects / "demo" / "begun").exists, 20)
        assert "Stopped the run" in await gateway.said("stop", "s")
        await run
        processes = gateway.inside("demo", "ps", "-eo", "args")
        assert "sleep 300" in processes
        assert "sleep 301" not in processes
        assert "sleep 302" not in processes
    finally:
        editor.kill()
        await editor.communicate()


async def test_the_door_is_there_for_agents_and_for_a_shell_that_was_let_in(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo", "p")
    told = await gateway.said("@@run command -v huskies; huskies status; echo code $?; id -u | tee -a uid", "m")
    assert "/usr/local/bin/huskies\n**demo**: ready" in told and "\ncode 0\n" in told
    assert "done: You are demo's agent, at the word of cli:root (operator)." in await gateway.said(
        "@@huskies whoami", "w"
    )
    status, out = await shell(*gateway.ssh("demo"), "command -v huskies; huskies status 2>&1; echo code $?")
    assert status == 0, out
    assert out.startswith("/usr/local/bin/huskies\nThere is no run of yours under way"), (
        "an editor's shell is in no run"
    )
    assert out.endswith("code 1\n")
    await gateway.said("grant demo background", "g")
    status, out = await shell(
        *gateway.ssh("demo"), "huskies status; huskies grant demo lead 2>&1; huskies model opus 2>&1"
    )
    assert out.startswith("**demo**: ready")
    assert "`grant` is for people" in out and "`model` needs a person's word" in out


async def test_who_is_logged_in_is_counted(gateway: ContainerGateway, tmp_path: Path) -> None:
    """A sled of another version is replaced only while nobody is."""
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    await gateway.logs_in("demo")
    engine = DockerEngine(gateway.instance, Resources(), NO_PROXY)
    spec = SledSpec("demo", gateway.paths("demo"), tmp_path, "t", oauth=False, owner=(1000, 1000), ssh_port=2)
    try:
        for options in ((), ("-tt",)):
            assert await engine.people_inside(spec) == 0
            inside = await asyncio.create_subprocess_exec(
                *gateway.ssh("demo", *options), "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
            )
            async with asyncio.timeout(20 * patience()):
                while await engine.people_inside(spec) != 1:
                    assert inside.returncode is None
            inside.kill()
            await inside.wait()
            async with asyncio.timeout(20 * patience()):
                while await engine.people_inside(spec):
                    """Until sshd has noticed."""
    finally:
        await engine.close()
