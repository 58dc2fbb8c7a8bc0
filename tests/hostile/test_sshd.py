"""An agent that would log into its own container, for a session that no sled ends."""

from __future__ import annotations

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
    shutil.copy(gateway.paths("demo").client_key, gateway.projects / "demo" / "key")
    shutil.chown(gateway.projects / "demo" / "key", 1000, 1000)
    options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i key -p 2222"
    for address in ("127.0.0.1", "127.8.8.8", "localhost", "$(hostname -i)"):
        tried = f"chmod 600 key; ssh {options} {address} id 2>&1"
        told = await gateway.said(f"@@run {tried}", f"s{address}")
        assert "Permission denied" in told, (address, told)
        assert "uid=" not in told
    await gateway.logs_in("demo")


async def test_an_ssh_agent_is_never_forwarded(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    code, output = await shell(
        "ssh-agent", "sh", "-c", shlex.join([*gateway.ssh("demo", "-A"), "echo [$SSH_AUTH_SOCK]"])
    )
    assert code == 0, output
    assert "[]" in output
