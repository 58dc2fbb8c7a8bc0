"""An engine in memory that counts as isolated: each sled has a real SSH server on its project's port."""

from __future__ import annotations

from collections.abc import Callable

import asyncssh

from gateway.engine import Prepared, SledSpec
from gateway.errors import EngineError
from gateway.testing import InMemoryEngine
from stacks.images import ImagePlan


class SshServer:
    """A project's SSH server; what it answers to commands is the test's to say."""

    def __init__(self, spec: SledSpec) -> None:
        self.spec = spec
        self.host_key = spec.paths.host_key
        self.commands: list[str | None] = []
        self.exit_status = 0
        #: Commands never end.
        self.hangs = False
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def __aenter__(self) -> SshServer:
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            self.spec.ssh_port,
            server_host_keys=[str(self.host_key)],
            authorized_client_keys=asyncssh.read_authorized_keys(str(self.spec.paths.authorized_keys)),
            process_factory=self._process,
            reuse_address=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._acceptor is not None
        self._acceptor.close()
        await self._acceptor.wait_closed()

    def _process(self, process: asyncssh.SSHServerProcess[str]) -> None:
        self.commands.append(process.command)
        if not self.hangs:
            process.stderr.write("so it is\n")
            process.exit(self.exit_status)


class SshEngine(InMemoryEngine):
    """`prepared` are the images that were asked for, `servers` the SSH servers that run, by project."""

    isolated = True

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[str] = []
        #: The same, as plans.
        self.plans: list[ImagePlan] = []
        #: An image whose containers do not start.
        self.fail_image = ""
        self.servers: dict[str, SshServer] = {}
        #: What each SSH command ends with.
        self.exit_status = 0

    async def prepare(self, spec: SledSpec, plan: ImagePlan, said: Callable[[str], None]) -> Prepared:
        self.prepared.append(plan.layers[-1].name)
        self.plans.append(plan)
        return await super().prepare(spec, plan, said)

    async def start(self, spec: SledSpec) -> None:
        if self.fail_image and f"-{self.fail_image}:" in spec.image:
            raise EngineError("it does not start")
        await super().start(spec)
        if spec.project not in self.servers:
            server = self.servers[spec.project] = await SshServer(spec).__aenter__()
            server.exit_status = self.exit_status

    async def stop(self, spec: SledSpec) -> None:
        await super().stop(spec)
        if (server := self.servers.pop(spec.project, None)) is not None:
            await server.__aexit__()
