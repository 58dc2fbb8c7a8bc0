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
    "bc --version; sqlite3 --version; git lfs version; curl --version; less --version; ssh -V; tar --version"
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
        # The image has these tools itself, in another version.
        ("pip install -q -U ruff==0.12.0", "ruff --version | grep -x 'ruff 0.12.0'"),
        # Compiled here, with the headers of the database's client.
        ("pip install -q psycopg2==2.9.11 mysqlclient==2.2.7", "python3 -c 'import psycopg2, MySQLdb'"),
    ),
    "node": (
        ("npm init -y > /dev/null; npm install --silent is-odd", "node -e 'require(\"is-odd\")'"),
        ("npm install --silent -g cowsay", "cowsay hi"),
        ("pnpm add --silent -g semver@7.7.2", "semver 1.2.3"),
        ("yarn global add --silent rimraf@6.0.1", "rimraf --version"),
        ("true", "npx --yes mkdirp@3.0.1 made && test -d made"),
        # Newer yarns refuse an environment that was made for the first one.
        (
            "npm install --silent @yarnpkg/cli-dist@4.9.2",
            "node node_modules/@yarnpkg/cli-dist/bin/yarn.js config get nodeLinker",
        ),
        (
            "npm install --silent -g npm@11.6.0",
            '[ "$(npm --version)" = 11.6.0 ] && [ "$(npm prefix -g)" = ~/.npm-global ] && '
            '[ "$(/usr/local/bin/yarn global bin)" = ~/.npm-global/bin ]',
        ),
        ("true", "pkg-config --version"),
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
    f"{'; '.join(f'echo {name}=${name}' for name in SAME)}; umask; locale charmap; date +%Z; nano --version | head -1; "
    "ruff --version"
)
#: A tool of a person's own, which the image has, too.
OWN = "mkdir -p ~/.local/bin; cd ~/.local/bin; printf '#!/bin/sh\\necho my own ruff\\n' > ruff; chmod +x ruff"
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
    assert "my own" not in await gateway.logs_in("demo", LOOK)
    await gateway.logs_in("demo", OWN)
    command = await gateway.logs_in("demo", LOOK)
    assert "my own ruff\n" in command
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
    assert (
        await gateway.logs_in("demo", "git config --system --get-all filter.lfs.process") == "git-lfs filter-process\n"
    )
    # A dev server opens a browser, and ends if it cannot.
    assert "machine: http://localhost:5173/\n" in await gateway.logs_in("demo", "xdg-open http://localhost:5173/")


#: What needs root, and the packages of the line that is proposed instead.
INSTALLING = {
    "sudo apt-get update": "PACKAGE",
    "sudo DEBIAN_FRONTEND=noninteractive apt-get -y install -t stable bc --no-install-recommends flex": "bc flex",
    "apt install -y -o Dpkg::Use-Pty=0 bison": "bison",
    "sudo -E apt full-upgrade": "PACKAGE",
    "apt-get remove nano": "PACKAGE",
}


async def test_what_needs_root_says_what_to_do_instead(gateway: ContainerGateway) -> None:
    """In test_stacks.py builds, which are root, run the same commands."""
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    for command, packages in INSTALLING.items():
        code, output = await shell(*gateway.ssh("demo"), command)
        assert (code, output.splitlines()[1:]) == (1, [f"RUN apt-get update && apt-get install -y {packages}"]), command
        assert "no root" in output and ".huskies/Dockerfile.fragment" in output and "`rebuild demo`" in output
    for command in ("sudo npm install -g yarn", "sudo -u postgres psql", "sudo -n true", "sudo"):
        code, output = await shell(*gateway.ssh("demo"), command)
        assert code == 1 and "sudo runs nothing" in output and len(output.splitlines()) == 2, (command, output)
    # What only reads is the real program's.
    await gateway.logs_in("demo", "apt list --installed | grep ^nano/ && apt-get --version && apt-cache policy nano")


async def test_what_people_install_has_no_part_in_a_start(gateway: ContainerGateway) -> None:
    """It comes first in sessions; but who starts the SSH server takes nothing from where an agent can write."""
    await gateway.start()
    assert "is ready" in await gateway.said("new project demo", "p")
    tools = "env grep sed awk tr sort sleep cat"
    await gateway.logs_in(
        "demo",
        f"mkdir -p ~/.local/bin; cd ~/.local/bin; for tool in {tools}; do "
        "printf '#!/bin/sh\\necho >> ~/ran\\nexec /usr/bin/%s \"$@\"\\n' $tool > $tool; chmod +x $tool; done",
    )
    await gateway.said("restart demo", "r")
    await gateway.logs_in("demo", "! test -e ~/ran")
    assert await gateway.logs_in("demo", "env true; wc -l < ~/ran") == "1\n"


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
