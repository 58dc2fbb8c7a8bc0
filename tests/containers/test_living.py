"""A container that people can live in: what a README's first commands need, every kind of session, and installing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.containers import ContainerGateway, shell

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

#: What every second README expects to be there.
FIRST = (
    "make --version; nano --version; unzip -v; xz --version; bzip2 --version < /dev/null; zip -v; patch --version; "
    "jq --version; file --version; rsync --version; tmux -V; lsof -v; wget --version; gpg --version; ps --version; "
    "git lfs version; curl --version; less --version; ssh -V; tar --version"
)
#: What each way of installing is, and a command that only works after it. What is global has to be on PATH.
INSTALLS = {
    "python": (
        ("pip install -q cowsay==6.1", "cowsay -t hi"),
        ("echo six > requirements.txt; pip install -q -r requirements.txt", "python -c 'import six'"),
        ("pip install -q --user iniconfig", "python3 -c 'import iniconfig'"),
        ("python -m venv .venv && .venv/bin/pip install -q six", ".venv/bin/python -c 'import six'"),
        ("uv venv -q uv-env && uv pip install -q --python uv-env six", "uv-env/bin/python -c 'import six'"),
        ("uv tool install -q pycowsay", "pycowsay hi"),
        ("pip install -q pipx && pipx install isort > /dev/null", "isort --version"),
    ),
    "node": (
        ("npm init -y > /dev/null; npm install --silent is-odd", "node -e 'require(\"is-odd\")'"),
        ("npm install --silent -g cowsay", "cowsay hi"),
        ("pnpm add --silent -g semver@7.7.2", "semver 1.2.3"),
        ("yarn global add --silent rimraf@6.0.1", "rimraf --version"),
        ("true", "npx --yes mkdirp@3.0.1 made && test -d made"),
        ("corepack enable", '[ "$(command -v pnpm)" = "$HOME/.corepack/bin/pnpm" ]'),
    ),
}
#: What a session has to find, whichever kind it is.
SAME = (
    "PATH",
    "HOME",
    "EDITOR",
    "LANG",
    "USER",
    "LOGNAME",
    "PIP_BREAK_SYSTEM_PACKAGES",
    "SSL_CERT_FILE",
    "TZ",
    "SHELL",
)
LOOK = (
    f"{'; '.join(f'echo {name}=${name}' for name in SAME)}; umask; locale charmap; date +%Z; nano --version | head -1"
)
TERMINALS = [
    "xterm-256color",
    "xterm-ghostty",
    "xterm-kitty",
    "wezterm",
    "foot",
    "alacritty",
    "tmux-256color",
    "a-new-one",
]


async def test_every_kind_of_session_finds_the_same(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo --stack python", "p")
    command = await gateway.logs_in("demo", LOOK)
    assert "EDITOR=nano\n" in command and "LANG=C.UTF-8\n" in command and "UTF-8\n" in command
    assert await gateway.logs_in("demo", "bash", stdin=LOOK.encode()) == command
    assert await gateway.logs_in("demo", "bash -l", stdin=LOOK.encode()) == command
    assert await gateway.logs_in("demo", f"bash -ic {_quoted(LOOK)} 2> /dev/null") == command
    code, output = await shell(*gateway.ssh("demo", "-tt"), stdin=f"stty -echo; PS1=; clear; {LOOK}; exit\n".encode())
    assert code == 0, output
    seen = output.replace("\r", "")
    assert all(line in seen for line in command.splitlines()), output
    (gateway.projects / "demo" / "look.sh").write_text(f"{LOOK}\n")
    told = await gateway.said("@@run sh look.sh > agent.txt\n@@say looked", "m1")
    assert "looked" in told, told
    agent = (gateway.projects / "demo" / "agent.txt").read_text()
    # An agent's own shell is plain; all else is what people have.
    assert [line for line in agent.splitlines() if not line.startswith(("SHELL=", "USER=", "LOGNAME="))] == [
        line for line in command.splitlines() if not line.startswith(("SHELL=", "USER=", "LOGNAME="))
    ]
    for terminal in TERMINALS:
        code, output = await shell(
            "env", f"TERM={terminal}", *gateway.ssh("demo", "-tt"), "clear && echo colors=$(tput colors)="
        )
        assert code == 0, (terminal, output)
        assert int(output.split("colors=")[1].split("=")[0]) >= 256, (terminal, output)
    # A new home has what Debian gives to one, and it is the person's from then on.
    assert "alias ll=" in await gateway.logs_in("demo", "bash -lic 'alias ll' 2> /dev/null")
    await gateway.logs_in("demo", "echo 'alias mine=true' > ~/.bashrc")
    await gateway.said("restart demo", "r")
    assert await gateway.logs_in("demo", "cat ~/.bashrc") == "alias mine=true\n"


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


async def test_the_first_commands_of_a_readme(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    await gateway.logs_in("demo", f"set -e; {{ {FIRST}; }} > /dev/null 2>&1")
    # git needs an editor for these, and nano is one that says how it is left.
    await gateway.logs_in("demo", "command -v $EDITOR && git var GIT_EDITOR | grep -x nano")
    await gateway.logs_in("demo", "printf 'all:\\n\\techo made > made\\n' > Makefile && make -s && cat made")
    await gateway.logs_in(
        "demo", "mkdir d && zip -qr d.zip d && tar cJf d.tar.xz d && unzip -l d.zip && tar tJf d.tar.xz"
    )
    await gateway.logs_in("demo", "git lfs install --local --skip-smudge && git lfs track '*.bin'")


@pytest.mark.parametrize("stack", sorted(INSTALLS))
async def test_every_way_of_installing(gateway: ContainerGateway, stack: str) -> None:
    """Into the home, found on PATH by every kind of session, and there after a rebuild."""
    await gateway.start()
    assert "is ready" in await gateway.said(f"new project demo --stack {stack}", "p")
    for number, (install, proof) in enumerate(INSTALLS[stack]):
        folder = f"mkdir -p way{number} && cd way{number}"
        await gateway.logs_in("demo", f"{folder} && {{ {install}; }}", within_s=180)
        await gateway.logs_in("demo", f"cd way{number} && {{ {proof}; }}")
        await gateway.logs_in("demo", "bash -l", stdin=f"set -e; cd way{number}; {proof}".encode())
    assert "fresh container" in await gateway.said("rebuild demo", "r")
    for number, (_, proof) in enumerate(INSTALLS[stack]):
        await gateway.logs_in("demo", f"cd way{number} && {{ {proof}; }}")


#: What VS Code's server, JetBrains' backend, Zed and Emacs' TRAMP need of a place: docs/editors.md has the list.
NEEDS = {
    "tar, gzip, curl and wget": "tar --version && gzip --version && curl --version && wget --version",
    "a home that can be written and run from": "printf '#!/bin/sh\\necho ran\\n' > ~/p && chmod +x ~/p && ~/p",
    "glibc": "ldd --version | head -1 | grep -i -e glibc -e gnu",
    "links, also hard ones": "cd ~ && touch a && ln -sf a b && ln -f a c && [ -L b ] && [ a -ef c ]",
    "free ports of the loopback": "python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 0))'",
    "file watchers": "python3 -c 'import ctypes; assert ctypes.CDLL(None).inotify_init() >= 0'",
    "locks on files": "flock ~/lock true",
    "processes that can be listed": "ps -eo pid,args | grep -q sshd",
    "open files": "[ $(ulimit -n) -ge 16384 ] && [ $(ulimit -c) = 0 ]",
    "shared memory": "[ $(df --output=size -B1M /dev/shm | tail -1) -ge 256 ]",
    "room for temporary files, from which programs run": "cp /bin/true /tmp/t && /tmp/t && [ -w /var/tmp ]",
    "base64, stat, readlink, mktemp": "echo a | base64 | base64 -d && stat -c %s / && readlink -f . && mktemp",
}


async def test_what_editors_need_of_a_place(gateway: ContainerGateway) -> None:
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    for name, command in NEEDS.items():
        code, output = await shell(*gateway.ssh("demo"), command)
        assert code == 0, (name, output)
    page = (Path(__file__).parents[2] / "docs" / "editors.md").read_text()
    assert all(f"| {name} |" in page for name in NEEDS)
