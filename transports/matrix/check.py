"""Live checks of a Matrix account: its homeserver, its login and its device. The key store stays closed.

A running gateway has that store locked, and the homeserver says the same about the device.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from gateway import outbound
from gateway.chat.finding import Finding, broken, clock, hint, ok
from gateway.errors import TransportDown, TransportError, TransportRefused
from transports.matrix.client import Client
from transports.matrix.config import MatrixConfig
from transports.matrix.errors import TokenRefused
from transports.matrix.login import checked, known
from transports.matrix.vault import Session, Vault

#: Seconds for the homeserver, for its domain's pointer, and for all that is asked of the account.
_HOMESERVER_S, _POINTER_S, _ACCOUNT_S = 5.0, 3.0, 8.0
_MOST_ANSWER = 2**16
_VERSIONS, _POINTER = "/_matrix/client/versions", "/.well-known/matrix/client"


async def check(config: MatrixConfig, now: Callable[[], float] = time.time) -> list[Finding]:
    """Ask the homeserver; about the account only if it really is a homeserver, as no token goes to anything else."""
    homeserver = await _homeserver(config, now)
    if any(finding.broken for finding in homeserver):
        return homeserver
    name = "matrix.account"
    try:
        async with asyncio.timeout(_ACCOUNT_S):
            return [*homeserver, *await _account(name, config)]
    except TransportError as error:
        return [*homeserver, broken(name, str(error))]
    except TimeoutError:
        return [*homeserver, broken(name, "the homeserver did not answer in time")]


# --- the homeserver --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answer:
    """What some server said, decoded; None where it is not a JSON object. Status 0: nothing came."""

    status: int = 0
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


async def _homeserver(config: MatrixConfig, now: Callable[[], float]) -> list[Finding]:
    name = "matrix.homeserver"
    try:
        base = URL(config.homeserver.rstrip("/"))
        whole = base.scheme in ("http", "https") and base.host
    except ValueError:
        whole = False
    if not whole:
        return [broken(name, "transports.matrix.homeserver must be a whole address, e.g. https://matrix.example.org")]
    answer = await _get(f"{config.homeserver.rstrip('/')}{_VERSIONS}", _HOMESERVER_S)
    ours = now()
    if answer.body is not None and isinstance(answer.body.get("versions"), list):
        return [ok(name, f"{base} answers"), *clock("matrix.clock", "the homeserver", answer.headers, ours)]
    if answer.problem:
        told = f"nothing answers at {base} ({answer.problem})"
    elif answer.body is None:
        told = f"{base} is not a homeserver: a web page answers there ({answer.status})"
    else:
        told = f"{base} is not a homeserver: something else answers there ({answer.status})"
    return [broken(name, f"{told}; {await _elsewhere(config, base)}")]


async def _elsewhere(config: MatrixConfig, base: URL) -> str:
    """Which address to set instead, as the domain tells its clients."""
    domains = [str(base.origin())]
    if ":" in config.user_id:
        domains.append(f"https://{config.user_id.partition(':')[2]}")
    for domain in domains:
        answer = await _get(f"{domain}{_POINTER}", _POINTER_S / len(domains))
        told = (answer.body or {}).get("m.homeserver")
        address = told.get("base_url") if isinstance(told, dict) else None
        if isinstance(address, str) and address.rstrip("/") != config.homeserver.rstrip("/"):
            return f'{domain} names another address: set transports.matrix.homeserver = "{address[:200].rstrip("/")}"'
    return "correct transports.matrix.homeserver; your account's settings in a Matrix client show it"


async def _get(url: str, seconds: float) -> _Answer:
    """Fetch a little JSON, without any credential."""
    try:
        async with (
            asyncio.timeout(seconds),
            outbound.session() as session,
            session.get(url) as response,
        ):
            text = await response.content.read(_MOST_ANSWER)
            return _Answer(response.status, _object(text), response.headers)
    except aiohttp.ClientConnectorCertificateError:
        return _Answer(problem="its certificate is not valid")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return _Answer(problem="no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _object(text: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# --- the account -----------------------------------------------------------------------------------------------------


async def _account(name: str, config: MatrixConfig) -> list[Finding]:
    """Raises TransportError, TimeoutError."""
    refused = None
    for session in known(config, Vault(config.store)):
        try:
            return await _session(name, config, await checked(config, session))
        except TokenRefused:
            refused = broken(
                name, "the homeserver refused the token: correct transports.matrix.access_token, or set .password"
            )
    if config.password:
        return [await _password(name, config)]
    return [refused or broken(name, "set transports.matrix.access_token, or transports.matrix.user_id and .password")]


async def _password(name: str, config: MatrixConfig) -> Finding:
    """Log in with the password, and out again: nothing of that stays, neither here nor there."""
    if not config.user_id:
        return broken(name, "set transports.matrix.user_id: a password alone does not name an account")
    client = Client(config.homeserver, config.user_id)
    try:
        await client.call(client.login(config.password, device_name=f"{config.bot_name} (check)"))
        await client.call(client.logout())
    except TransportDown:
        raise
    except TransportError as error:
        return broken(
            name, f"could not log in as {config.user_id}: correct transports.matrix.user_id or .password ({error})"
        )
    finally:
        await client.close()
    return ok(name, f"the password of {config.user_id} is right; the first start logs in with it, as a new device")


async def _session(name: str, config: MatrixConfig, session: Session) -> list[Finding]:
    account = ok(name, f"{session.user_id}, device {session.device_id or '(none)'}")
    if not config.encryption:
        return [account]
    return [account, await _device(config, session)]


async def _device(config: MatrixConfig, session: Session) -> Finding:
    """What other people's clients see of our device."""
    name = "matrix.device"
    client = Client(session.homeserver, session.user_id)
    client.access_token = session.access_token
    try:
        told = await client.api("POST", "/_matrix/client/v3/keys/query", {"device_keys": {session.user_id: []}})
    except TransportRefused:
        raise
    except TransportError as error:
        return hint(name, f"could not be checked: {error}")
    finally:
        await client.close()
    me = session.user_id
    device = _part(told, "device_keys", me, session.device_id)
    if not device:
        return hint(name, f"device {session.device_id} has no keys yet: the first start uploads them")
    signers = _part(told, "self_signing_keys", me, "keys")
    if signers and any(signer in _part(device, "signatures", me) for signer in signers):
        return ok(name, f"device {session.device_id} is signed")
    if _part(told, "master_keys", me):
        return hint(
            name,
            f"device {session.device_id} is not signed by {me}'s signing identity, which another client may have made. "
            "Clients that talk only to signed devices will not send it keys: verify it from that client",
        )
    mend = "the next start signs it" if config.password else "set transports.matrix.password once"
    return hint(
        name,
        f"device {session.device_id} is not signed, and clients that talk only to signed devices will not send it "
        f"keys: {mend}",
    )


def _part(whole: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """An object deep inside an answer; empty where there is none."""
    found: Any = whole
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
