"""Cross-signing of our own device, which the SDK lacks.

Clients that send keys only to signed devices would lock the bot out. Three seeds make the account's signing
identity; they are kept in the vault. An identity made elsewhere is never overwritten.
"""

from __future__ import annotations

import base64
import json
import logging
import secrets
from typing import Any

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from nio import Api

from gateway.errors import DeliveryRefused
from transports.matrix.client import Client
from transports.matrix.vault import Vault

log = logging.getLogger(__name__)

_PATH = "/_matrix/client/v3/keys"
_USAGES = ("master", "self_signing", "user_signing")


class _Key:
    """One Ed25519 signing key."""

    def __init__(self, seed: str) -> None:
        self._key = ECC.construct(curve="Ed25519", seed=base64.b64decode(seed))
        self.public = _b64(self._key.public_key().export_key(format="raw"))

    def sign(self, thing: dict[str, Any], user_id: str) -> None:
        """Add our signature to a JSON object."""
        bare = {key: value for key, value in thing.items() if key not in ("signatures", "unsigned")}
        signature = _b64(eddsa.new(self._key, "rfc8032").sign(Api.to_canonical_json(bare).encode()))
        thing.setdefault("signatures", {}).setdefault(user_id, {})[f"ed25519:{self.public}"] = signature


class Signing:
    """The account's signing identity, and whether our device carries its signature."""

    def __init__(self, vault: Vault, password: str) -> None:
        """`password` answers the server's question when the identity is new; it may be empty."""
        self._vault = vault
        self._password = password
        self._settled = False

    async def ensure(self, client: Client) -> None:
        """Sign our device once it is known to the server; do nothing when that is settled.

        A refusal is logged and final until the next start: unsigned, the bot still works with most clients.

        Raises:
            TransportDown, TransportRefused: try again later.
        """
        if self._settled:
            return
        me, device_id = client.user_id, client.device_id
        answer = await client.api("POST", f"{_PATH}/query", {"device_keys": {me: []}})
        device = answer.get("device_keys", {}).get(me, {}).get(device_id)
        if device is None:
            return
        try:
            await self._sign(client, answer, device)
        except DeliveryRefused as error:
            log.warning("matrix: device %s stays unsigned: %s", device_id, error)
        self._settled = True

    async def _sign(self, client: Client, answer: dict[str, Any], device: dict[str, Any]) -> None:
        me = client.user_id
        seeds = json.loads(self._vault.seeds.read_text()) if self._vault.seeds.exists() else None
        theirs = next(iter(answer.get("master_keys", {}).get(me, {}).get("keys", {}).values()), None)
        if theirs is not None and (seeds is None or _Key(seeds["master"]).public != theirs):
            log.warning(
                "matrix: %s has a signing identity made elsewhere; it is left alone and device %s stays "
                "unsigned. Clients that talk only to signed devices will not send it keys: "
                "verify it from the other client.",
                me,
                client.device_id,
            )
            return
        if seeds is None:
            seeds = {usage: base64.b64encode(secrets.token_bytes(32)).decode() for usage in _USAGES}
            self._vault.write(self._vault.seeds, json.dumps(seeds))
        if theirs is None:
            await self._publish(client, seeds)
        signer = _Key(seeds["self_signing"])
        if f"ed25519:{signer.public}" in device.get("signatures", {}).get(me, {}):
            return
        signed = {key: value for key, value in device.items() if key not in ("signatures", "unsigned")}
        signer.sign(signed, me)
        await client.api("POST", f"{_PATH}/signatures/upload", {me: {client.device_id: signed}})

    async def _publish(self, client: Client, seeds: dict[str, str]) -> None:
        """Upload the public half of a new identity, answering the server's question for the password."""
        me = client.user_id
        body: dict[str, Any] = {}
        master = _Key(seeds["master"])
        for usage in _USAGES:
            public = _Key(seeds[usage]).public
            key: dict[str, Any] = {"user_id": me, "usage": [usage], "keys": {f"ed25519:{public}": public}}
            if usage == "master":
                signature = client.olm.account.sign(Api.to_canonical_json(key))
                key["signatures"] = {me: {f"ed25519:{client.device_id}": signature}}
            else:
                master.sign(key, me)
            body[f"{usage}_key"] = key
        path = f"{_PATH}/device_signing/upload"
        status, question, _ = await client.raw("POST", path, body)
        if status == 200:
            return
        if status == 401 and isinstance(question, dict) and "session" in question:
            if not self._password:
                raise DeliveryRefused("the homeserver asks for the password: set transports.matrix.password once")
            body["auth"] = {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": me},
                "password": self._password,
                "session": question["session"],
            }
        await client.api("POST", path, body)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
