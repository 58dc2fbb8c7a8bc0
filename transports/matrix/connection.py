"""One run of the transport: log in, open the keys, receive, and close everything again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from gateway.chat import Receiver
from gateway.errors import TransportDown, TransportRefused
from transports.marks import Marks
from transports.matrix.backoff import insist
from transports.matrix.budget import Budget
from transports.matrix.client import Client, quiet_sdk
from transports.matrix.config import EMOJIS, NAME, MatrixConfig
from transports.matrix.errors import STORE_ERRORS, KeysLost, TokenRefused
from transports.matrix.intake import Intake
from transports.matrix.invites import Invites
from transports.matrix.keys import Keys
from transports.matrix.login import log_in, sign_in
from transports.matrix.outgoing import Outgoing
from transports.matrix.signing import Signing
from transports.matrix.sync import SyncLoop
from transports.matrix.vault import Session, Vault
from transports.matrix.verification import Verifications

log = logging.getLogger(__name__)


class Connection:
    """The account while the transport runs."""

    def __init__(self, config: MatrixConfig, may_invite: Callable[[str], bool], receiver: Receiver) -> None:
        self._config = config
        self._may_invite = may_invite
        self._receiver = receiver
        self._vault = Vault(config.store)
        self._budget = Budget()
        self._outgoing: Outgoing | None = None
        self.marks = Marks(NAME, EMOJIS)
        self.serving = False

    @property
    def outgoing(self) -> Outgoing:
        """Where to send.

        Raises:
            TransportDown: the rooms are not known yet.
        """
        if self._outgoing is None:
            raise TransportDown("the Matrix transport is not connected yet")
        return self._outgoing

    async def run(self) -> None:
        """Receive until cancelled.

        Raises:
            TransportRefused: the account cannot be used, or another process uses the store.
        """
        quiet_sdk()
        with self._vault.locked():
            session = await insist(partial(sign_in, self._config, self._vault))
            try:
                await self._serve(session)
            except (TokenRefused, KeysLost) as error:
                if not self._config.password:
                    raise _explained(error) from error
                log.warning("matrix: %s; logging in as a new device", error)
            # A second refusal in one run means that a new device does not help.
            await self._serve(await insist(partial(log_in, self._config, self._vault)))

    async def _serve(self, session: Session) -> None:
        """Receive with one session until it is refused."""
        async with self._client(session) as client:
            keys = None
            if self._config.encryption:
                keys = Keys(client, Signing(self._vault, self._config.password))
                await insist(keys.check_device)
            outgoing = Outgoing(client, keys, self._budget)
            invites = Invites(client, self._may_invite)

            def serving(now: bool) -> None:
                if now and not self.serving:
                    log.info("matrix: serving as %s", client.user_id)
                self.serving = now
                if now:
                    self._outgoing = outgoing

            loop = SyncLoop(
                client,
                receiver=self._receiver,
                intake=Intake(client, self._config),
                invites=invites,
                keys=keys,
                verifications=Verifications(client, outgoing, self._may_invite),
                serving=serving,
            )
            await _together(loop.run(), invites.run(), self.marks.run(outgoing))

    @asynccontextmanager
    async def _client(self, session: Session) -> AsyncIterator[Client]:
        """The SDK's client for a session; closed on every way out."""
        store = self._vault.crypto(session) if self._config.encryption else None
        client = Client(session.homeserver, session.user_id, keys=store)
        try:
            _open(client, session)
            yield client
        finally:
            self._outgoing = None
            self.serving = False
            if client.store is not None:
                client.store.database.close()
            await client.close()


def _explained(error: TransportRefused) -> TransportRefused:
    """The same, with what to type."""
    if isinstance(error, KeysLost):
        return TransportRefused(
            f"{error}: set transports.matrix.password, or make a new transports.matrix.access_token; "
            "either makes a new device"
        )
    return TransportRefused(f"{error}: correct transports.matrix.access_token")


def _open(client: Client, session: Session) -> None:
    """Log the client in, which opens its key store."""
    try:
        client.restore_login(session.user_id, session.device_id or "none", session.access_token)
    except STORE_ERRORS as error:
        raise TransportRefused(f"the Matrix key store cannot be opened: {error}") from error
    except Exception as error:
        # The SDK has no name for keys that the pass phrase does not open.
        raise KeysLost(f"the keys of device {session.device_id} cannot be read") from error


async def _together(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs until one fails, and take the others along; its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
