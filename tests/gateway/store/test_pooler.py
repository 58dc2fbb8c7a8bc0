"""A pooler before PostgreSQL: one that lends connections for a transaction each is refused, one for sessions is not."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import StateError
from gateway.store import Store
from gateway.testing import patience
from tests.support.ports import take_port
from tests.support.postgres import Server
from tests.support.processes import die_with_parent


@contextlib.contextmanager
def pooler(folder: Path, to: Server, mode: str) -> Iterator[int]:
    """PgBouncer; the port that it listens on."""
    port = take_port()
    user = "postgres" if os.geteuid() == 0 else None
    (folder / "users").write_text('"huskies" ""\n')
    (folder / "pooler.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={to.port} user=huskies\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\nauth_file = {folder}/users\npool_mode = {mode}\n"
    )
    if user is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    process = subprocess.Popen(
        [str(shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")), str(folder / "pooler.ini")],
        user=user,
        cwd="/",
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    until = time.monotonic() + 20 * patience()
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user may enter."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="hp") as name:
        yield Path(name)


@pytest.mark.parametrize("mode", ["transaction", "statement", "session"])
async def test_only_a_pooler_that_keeps_sessions_together_is_taken(
    postgres: Server, tmp_path: Path, folder: Path, mode: str
) -> None:
    if shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") is None and os.environ.get("CI") != "true":
        pytest.skip("install pgbouncer")
    database = postgres.of(tmp_path).rpartition("/")[2]
    try:
        with pooler(folder, postgres, mode) as port:
            address = f"postgresql://huskies@127.0.0.1:{port}/{database}"
            if mode == "session":
                store = await Store.open(address)
                await store.probe()
                await store.close()
            else:
                with pytest.raises(
                    StateError, match="pool_mode = session" if mode == "transaction" else "cannot be used"
                ):
                    await Store.open(address)
    finally:
        postgres.drop_all()
