"""An agent that would log into its own container, for a session that no sled ends."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil

import pytest

from tests.support.containers import ContainerGateway, shell
from tests.support.processes import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

SERVERS = "ps -eo ppid,pid,args | grep '[/]usr/sbin/sshd -D'"


def started_with(process: str) -> str:
    """The server's arguments; once it is up it says more in their place."""
    return "/usr/sbin/sshd" + process.partition("/usr/sbin/sshd")[2].partition(" [listener]")[0].rstrip()


async def test_an_agent_gets_no_session_of_its_own(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    await gateway.logs_in("demo")

    # The server's configuration is not the agent's, nor does one that it leaves lying about count.
    told = await gateway.said(
        "@@run for f in /opt/huskies/etc/sshd_config /etc/ssh/sshd_config; do echo x >> $f; done", "w"
    )
    assert told.count("Permission denied") == 2, told
    (before,) = gateway.inside("demo", "bash", "-c", SERVERS).splitlines()
    planted = "printf 'PermitUserEnvironment yes\\nAcceptEnv *\\n' > /run/sshd_config"
    await gateway.said(f"@@run {planted}; pkill -x -o sshd", "k")

    def again() -> str:
        (now,) = gateway.inside("demo", "bash", "-c", f"{SERVERS} || echo").splitlines() or [""]
        return now if now and now.split()[1] != before.split()[1] else ""

    now = await until(again, 20)
    assert started_with(now) == started_with(before), "what is started anew is what there was"

    # Even with the client's own key, which is on the host alone, nobody comes in from here.
    key, owner = gateway.projects / "demo" / "key", (gateway.projects / "demo").stat()
    shutil.copy(gateway.paths("demo").client_key, key)
    shutil.chown(key, owner.st_uid, owner.st_gid)
    assert "PRIVATE KEY" in await gateway.said("@@run chmod 600 key && cat key", "c"), "it is the agent's to use"
    options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i key -p 2222"
    refused = {address: "Permission denied" for address in ("127.0.0.1", "127.8.8.8", "localhost", "$(hostname -i)")}
    # These lead to the loopback, too, or come from elsewhere on it.
    others = ("0.0.0.0", "::ffff:127.0.0.1", "-b 127.9.9.9 127.0.0.1", "-b $(hostname -i) 127.0.0.1")
    refused |= dict.fromkeys(others, "Permission denied")
    six = gateway.inside("demo", "cat", "/proc/net/if_inet6").split()[0::6]
    refused |= dict.fromkeys((":".join(re.findall("....", address)) for address in six), "Permission denied")
    refused |= dict.fromkeys(("::1", "::"), "Permission denied" if six else "Cannot assign requested address")
    for address, told_so in refused.items():
        tried = f"chmod 600 key; ssh {options} {address} id 2>&1"
        told = await gateway.said(f"@@run {tried}", f"s{address}")
        assert told_so in told, (address, told)
        assert "uid=" not in told
    await gateway.logs_in("demo")


@pytest.mark.slow
async def test_what_is_asked_of_a_persons_server_ends_with_a_restart_and_not_with_a_stop(
    gateway: ContainerGateway,
) -> None:
    """An agent's own server, which an earlier turn left, is within reach of a stop: it stays, what it does now ends."""
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    await gateway.logs_in("demo", server("theirs"))
    await gateway.said(f"@@run {server('own')}", "s")

    def running(what: str) -> list[str]:
        """Processes of exactly this command line."""
        processes = gateway.inside("demo", "ps", "-eo", "args").splitlines()
        return sorted(process for process in processes if re.fullmatch(what, process))

    orders = "echo sleep 301 > /tmp/theirs; echo sleep 302 > /tmp/own; setsid sleep 303 & sleep 304"
    run = asyncio.create_task(gateway.send(f"@@run {orders}", "m"))
    await until(lambda: len(running("sleep 30[1-4]")) == 4, 20)
    assert "Stopped the run" in await gateway.said("stop", "stop")
    await run
    assert running("sleep 30[1-4]") == ["sleep 301"]
    assert len(running("sh -c while .*")) == 2, "both are there for the next turn"
    assert "was restarted" in await gateway.said("restart", "r")
    assert running("sleep 30[1-4]|sh -c while .*") == []
    assert not gateway.inside("demo", "find", "/tmp", "-type", "p"), "nor a way to ask"


def server(name: str) -> str:
    """A command that leaves a server, which runs what it reads from a pipe, outside of any session."""
    serves = f"while read -r order; do $order & done <> /tmp/{name}"
    return f"mkfifo /tmp/{name}; setsid sh -c '{serves}' > /dev/null 2>&1 < /dev/null &"


async def test_an_ssh_agent_is_never_forwarded(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    code, output = await shell(
        "ssh-agent", "sh", "-c", shlex.join([*gateway.ssh("demo", "-A"), "echo [$SSH_AUTH_SOCK]"])
    )
    assert code == 0, output
    assert "[]" in output
