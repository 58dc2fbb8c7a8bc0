"""A PostgreSQL server of the tests' own, on the loopback; a database for each folder that a store is opened in."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine

from gateway.store import schema
from gateway.testing import patience
from tests.support.ports import take_port
from tests.support.processes import die_with_parent

_TEMPLATE = "template_of_tests"


def programs() -> Path | None:
    """Where the newest server of this machine has its programs, or the one that HUSKIES_POSTGRES_PROGRAMS names."""
    if named := os.environ.get("HUSKIES_POSTGRES_PROGRAMS"):
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Server:
    """Use `running_server`."""

    def __init__(self, folder: Path, port: int, *, durable: bool = False) -> None:
        self._folder, self.port, self._durable = folder, port, durable
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._made: set[str] = set()
        self._user = "postgres" if os.geteuid() == 0 else None  # the server does not run as root
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)

    # --- the server --------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make its files, and start it."""
        self._run("initdb", "-D", str(self._data), "-U", "huskies", "--auth=trust", "-E", "UTF8", "--no-sync")
        self.start()
        self.command("postgres", f"CREATE DATABASE {_TEMPLATE}")
        engine = create_engine(self.address(_TEMPLATE).replace("postgresql:", "postgresql+psycopg:"))
        schema.prepare_server(engine)
        engine.dispose()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        kept = () if self._durable else ("fsync=off", "full_page_writes=off")
        ours = ("max_connections=300", f"port={self.port}", "listen_addresses=127.0.0.1")
        settings = [part for each in (*kept, *ours) for part in ("-c", each)]
        bin_ = programs()
        assert bin_ is not None
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(bin_ / "postgres"), "-D", str(self._data), "-k", str(self._folder), *settings],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
                preexec_fn=die_with_parent,
            )
        until = time.monotonic() + 60 * patience()
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.address("postgres")):
                return
            assert self._process.poll() is None and time.monotonic() < until, (self._folder / "log").read_text()
            time.sleep(0.05)

    def standby(self, folder: Path, port: int) -> Server:
        """Another server that follows this one, and which each commit waits for."""
        made = Server(folder, port)
        source = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "huskies")
        made._run("pg_basebackup", *source, "-D", str(made._data), "-R", "--checkpoint=fast", "--no-sync")
        made.start()
        self.command("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.command("postgres", "SELECT pg_reload_conf()")
        return made

    def promote(self) -> None:
        """A standby becomes a server that is written."""
        assert self.command("postgres", "SELECT pg_promote()") == [(True,)]
        self.command("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''")
        self.command("postgres", "SELECT pg_reload_conf()")

    def runs(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it. SIGINT: now; SIGQUIT: as if the machine had failed."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60 * patience())
            self._process = None

    def _run(self, name: str, *arguments: str) -> None:
        bin_ = programs()
        assert bin_ is not None
        command = [str(bin_ / name), *arguments]
        done = subprocess.run(command, user=self._user, cwd=self._folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    # --- its databases -----------------------------------------------------------------------------------------------

    def address(self, database: str) -> str:
        """The address of one."""
        return f"postgresql://huskies@127.0.0.1:{self.port}/{database}"

    def command(self, database: str, text: str, *values: Any) -> list[Any]:
        """Say something to it; the rows that come back."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            cursor = connection.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []

    def of(self, folder: Path) -> str:
        """The address of a folder's database, made and migrated if there is none yet."""
        name = f"t{blake2b(str(folder).encode(), digest_size=8).hexdigest()}"
        if name not in self._made:
            self.command("postgres", f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
            self._made.add(name)
        return self.address(name)

    def drop_all(self) -> None:
        """Remove the databases of all folders."""
        for name in self._made:
            self.command("postgres", f"DROP DATABASE {name} WITH (FORCE)")
        self._made.clear()


@contextlib.contextmanager
def running_server(*, durable: bool = False) -> Iterator[Server]:
    """A server that is gone afterwards, with its files; one that is not `durable` asks nothing of the disk."""
    folder = Path(tempfile.mkdtemp(prefix="hp"))
    made = Server(folder, take_port(), durable=durable)
    try:
        made.make()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)
