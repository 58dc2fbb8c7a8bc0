"""From the configuration to a login that works: the kept one, the configured token, or the password, once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from gateway.errors import DeliveryRefused, TransportRefused
from transports.matrix.client import Client
from transports.matrix.config import MatrixConfig
from transports.matrix.errors import TokenRefused
from transports.matrix.vault import Session, Vault, fingerprint

log = logging.getLogger(__name__)


async def sign_in(config: MatrixConfig, vault: Vault) -> Session:
    """A session that the homeserver accepts now.

    Raises:
        TransportDown: the homeserver does not answer.
        TransportRefused: none of our tokens or passwords works; the text says which setting to correct.
    """
    for session in known(config, vault):
        try:
            return await checked(config, session)
        except TokenRefused:
            log.warning("matrix: the access token of device %s is no longer valid", session.device_id or "?")
    if config.password:
        return await log_in(config, vault)
    if config.access_token:
        raise TransportRefused(
            "the homeserver refused the token: correct transports.matrix.access_token, "
            "or set transports.matrix.password"
        )
    raise TransportRefused("set transports.matrix.access_token, or transports.matrix.user_id and .password")


async def log_in(config: MatrixConfig, vault: Vault) -> Session:
    """Log in with the password as a new device, and keep the session. Raises as `sign_in` does."""
    if not config.user_id:
        raise TransportRefused("set transports.matrix.user_id: a password alone does not name an account")
    client = Client(config.homeserver, config.user_id)
    try:
        answer = await client.call(client.login(config.password, device_name=config.bot_name))
    except (DeliveryRefused, TokenRefused) as error:
        raise TransportRefused(
            f"could not log in as {config.user_id}: correct transports.matrix.user_id or .password ({error})"
        ) from error
    finally:
        await client.close()
    session = Session(
        config.homeserver,
        answer.user_id,
        answer.device_id,
        answer.access_token,
        fingerprint(config.access_token),
    )
    vault.keep(session)
    log.info("matrix: logged in as %s, new device %s", session.user_id, session.device_id)
    return session


def known(config: MatrixConfig, vault: Vault) -> Iterator[Session]:
    """The sessions that we may already have, best first."""
    kept = vault.session()
    if (
        kept is not None
        and kept.supersedes == fingerprint(config.access_token)
        and kept.homeserver.rstrip("/") == config.homeserver.rstrip("/")
        and config.user_id in ("", kept.user_id)
    ):
        yield kept
    elif config.access_token:
        yield Session(config.homeserver, config.user_id, config.device_id, config.access_token)


async def checked(config: MatrixConfig, session: Session) -> Session:
    """`session` with the account and device that its token really belongs to."""
    client = Client(config.homeserver, session.user_id)
    client.access_token = session.access_token
    try:
        answer = await client.call(client.whoami())
    except DeliveryRefused as error:
        raise TransportRefused(f"correct transports.matrix.homeserver: {error}") from error
    finally:
        await client.close()
    if session.user_id and answer.user_id != session.user_id:
        raise TransportRefused(
            f"the token belongs to {answer.user_id}, not to {session.user_id}: "
            "correct transports.matrix.user_id or .access_token"
        )
    device_id = answer.device_id or session.device_id
    if not device_id and config.encryption:
        raise TransportRefused("the token belongs to no device: set transports.matrix.device_id")
    if session.device_id and device_id != session.device_id:
        raise TransportRefused(
            f"the token belongs to device {device_id}: correct or remove transports.matrix.device_id"
        )
    return Session(session.homeserver, answer.user_id, device_id, session.access_token, session.supersedes)
