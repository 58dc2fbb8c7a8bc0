"""A gateway on PostgreSQL as its operator meets it: named, moved to, refused, lost and back, and never shown."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.huskies import Huskies
from tests.support.postgres import Server
from tests.support.processes import until

pytestmark = pytest.mark.timeout(240)


async def test_a_state_moves_and_the_conversation_goes_on(tmp_path: Path, postgres: Server) -> None:
    address = postgres.of(tmp_path / "there").replace("huskies@", "huskies:a-secret-word@")
    try:
        with Huskies(tmp_path) as huskies:
            assert "is ready" in (await huskies("run", "--pipe", stdin=b"new project demo\nhello\n")).out
            assert "no database is named: set gateway.database" in (await huskies("migrate")).complaint
            told = await huskies("run", "--pipe", stdin=b"version\n", HUSKIES_GATEWAY__DATABASE=address)
            assert "gateway.database is new and empty" in told.err and "huskies migrate" in told.err
            postgres.command(address.rpartition("/")[2], "TRUNCATE conversations, audit CASCADE")
            moved = await huskies("migrate", HUSKIES_GATEWAY__DATABASE=address)
            assert moved.code == 0, moved
            assert "projects: 1 rows" in moved.out and "are the same in both" in moved.out
            assert "a-secret-word" not in moved.out + moved.err
            done = await huskies("run", "--pipe", stdin=b"still there?\n", HUSKIES_GATEWAY__DATABASE=address)
            assert done.out.endswith("still there?\n"), done
            assert "is new and empty" not in done.err
            back = await huskies("migrate", "--back", HUSKIES_GATEWAY__DATABASE=address)
            assert f"move {huskies.state}/.gateway/huskies.db aside" in back.complaint
            huskies.rewrite({"gateway": {"database": "mysql://x"}})
            assert "gateway.database must be an address like postgresql://" in (await huskies("run")).complaint
            huskies.rewrite({"gateway": {"database": address}})
            huskies.config.chmod(0o644)
            assert "chmod 600" in (await huskies("run")).complaint
    finally:
        postgres.drop_all()


async def test_a_server_that_goes_away_is_named_and_the_message_is_answered_when_it_is_back(
    tmp_path: Path, postgres: Server
) -> None:
    file = tmp_path / "address"
    file.write_text(postgres.of(tmp_path / "there").replace("huskies@", "huskies:a-secret-word@") + "\n")
    file.chmod(0o600)
    try:
        with Huskies(tmp_path) as huskies:
            huskies.environment["HUSKIES_GATEWAY__DATABASE_FILE"] = str(file)
            await huskies.start()
            assert "is ready" in (await huskies("send", "new project demo")).out
            healthy = await huskies("doctor")
            assert "ok, in PostgreSQL " in healthy.out and f":{postgres.port}/" in healthy.out
            postgres.stop(signal.SIGQUIT)
            try:
                broken = await huskies("doctor")
                assert broken.code == 1
                assert "the database refuses writes" in broken.out
                assert "look at the PostgreSQL server" in broken.out
                refused = await huskies("send", "hello", "--timeout", "5")
                assert refused.code == 1, refused
            finally:
                postgres.start()
            await until(lambda: postgres.command("postgres", "SELECT 1") != [], 20)
            answered = await huskies("send", "hello again")
            assert answered.out.endswith("hello again\n"), answered
            log = huskies.log.read_text()
            assert "a-secret-word" not in log
    finally:
        postgres.drop_all()
