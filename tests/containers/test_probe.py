"""An engine is proven before anything is built: a real one, and one that shares too little."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from gateway.engine.docker import images, probe
from gateway.engine.docker.address import find
from gateway.engine.docker.client import translated
from gateway.errors import EngineError
from tests.support.containers import BASE_IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]
OWNER = (1000, 1000) if os.geteuid() == 0 else (os.getuid(), os.getgid())


class Engine:
    """Runs probes; `changes`: of the mount and the container, and whose what it wrote is."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self.api = APIClient(base_url=find().address)

    async def run(self, config: dict[str, Any]) -> tuple[int, str]:
        config["HostConfig"]["Mounts"][0] |= self._changes.get("mount", {})
        config |= self._changes.get("container", {})
        (place,) = [Path(mount["Source"]) for mount in config["HostConfig"]["Mounts"]]
        with translated():
            done = await asyncio.to_thread(images._run, self.api, config)
        if owner := self._changes.get("written_by"):
            os.chown(place / "written", owner, owner)
        return done


async def look(folder: Path, **changes: Any) -> None:
    engine = Engine(**changes)
    try:
        await probe.prove(BASE_IMAGE, "probing", OWNER, folder, engine.run)
    finally:
        engine.api.close()


async def test_this_hosts_engine_shares_folders_sockets_and_users(engine: None, tmp_path: Path) -> None:
    await look(tmp_path)
    assert list(tmp_path.iterdir()) == [], "nothing of it is left"


async def test_an_engine_in_a_virtual_machine_has_another_folder_there(engine: None, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o777)
    (tmp_path / "theirs").chmod(0o777)
    with pytest.raises(EngineError, match=r"do not share this host's folders and sockets \(it cannot connect"):
        await look(tmp_path, mount={"Source": str(tmp_path / "theirs")})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
async def test_an_engine_that_shifts_users(engine: None, tmp_path: Path) -> None:
    """As another user it cannot use what is ours; as one who can, what it writes is not the project's."""
    with pytest.raises(EngineError, match="it cannot connect to a socket: Permission denied"):
        await look(tmp_path, container={"User": "2000:2000"})
    with pytest.raises(EngineError, match="writes as user 1000 belongs to user 101000"):
        await look(tmp_path, written_by=101000)


async def test_an_image_without_perl_proves_nothing_and_is_no_error(engine: None, tmp_path: Path) -> None:
    await look(tmp_path, container={"Entrypoint": ["perl-is-not-here"]})
    await look(tmp_path, container={"Entrypoint": ["sh", "-c", "exit 127"]})
