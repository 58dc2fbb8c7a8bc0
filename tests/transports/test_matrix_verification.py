"""Requests to verify the bot are declined at once, in rooms and between devices, on a real homeserver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from nio.events import KeyVerificationCancel, ToDeviceEvent

from gateway.testing import patience
from tests.support.matrix_user import MatrixUser
from transports.matrix.events import NO_VERIFICATION

if TYPE_CHECKING:
    from tests.transports.conftest import World

pytestmark = pytest.mark.synapse

METHODS = {"from_device": "ANASPHONE", "methods": ["m.sas.v1"]}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_a_request_in_a_room_is_cancelled_and_answered(world: World, encrypted: bool) -> None:
    ana, bot = await world.user("ana"), await world.bot()
    room = await world.room(ana, bot, encrypted=encrypted)
    request = {"msgtype": "m.key.verification.request", "body": "verify me", "to": bot.user_id, **METHODS}
    event_id = await ana.put(room, request)
    message = await bot.receiver.gets(lambda message: bool(message.problem))
    assert message.problem == NO_VERIFICATION
    cancelled = await ana.sees(lambda event: event["type"] == "m.key.verification.cancel", room=room)
    assert cancelled["content"]["m.relates_to"] == {"rel_type": "m.reference", "event_id": event_id}
    assert cancelled["content"]["code"] == "m.user"
    assert "bot" in cancelled["content"]["reason"]
    assert bool(cancelled.get("encrypted")) is encrypted
    await ana.put(room, request | {"to": "@somebody:else"})
    await ana.say(room, "marker")
    await bot.receiver.gets_text("marker")
    assert len([message for message in bot.receiver.messages if message.problem]) == 1


@pytest.mark.parametrize("kind", ["request", "start"])
async def test_a_request_to_the_device_is_cancelled(world: World, kind: str) -> None:
    ana, bot = await world.user("ana"), await world.bot()
    cancelled: asyncio.Queue[ToDeviceEvent] = asyncio.Queue()
    ana.client.add_to_device_callback(cancelled.put, KeyVerificationCancel)
    await _ask(ana, bot.user_id, kind)
    async with asyncio.timeout(30 * patience()):
        told = (await cancelled.get()).source["content"]
    assert (told["transaction_id"], told["code"]) == ("txn-1", "m.user")


async def test_strangers_and_nonsense_get_no_answer(world: World) -> None:
    eve, ana = await world.user("eve"), await world.user("ana")
    bot = await world.bot(may_invite=lambda sender: sender == f"matrix:{ana.user_id}")
    await _ask(eve, bot.user_id, "request")
    for odd in ({}, {"transaction_id": 1, "from_device": []}):
        await _ask(ana, bot.user_id, "request", odd)
    cancelled: asyncio.Queue[ToDeviceEvent] = asyncio.Queue()
    eve.client.add_to_device_callback(cancelled.put, KeyVerificationCancel)
    ana.client.add_to_device_callback(cancelled.put, KeyVerificationCancel)
    await _ask(ana, bot.user_id, "request")
    async with asyncio.timeout(30 * patience()):
        assert (await cancelled.get()).source["content"]["transaction_id"] == "txn-1"
    assert cancelled.empty()


async def _ask(user: MatrixUser, whom: str, kind: str, content: Any = None) -> None:
    """Ask all devices of somebody for a verification."""
    told: dict[str, Any] = {"from_device": user.client.device_id, "methods": ["m.sas.v1"], "transaction_id": "txn-1"}
    if kind == "start":
        told |= {"method": "m.sas.v1", "key_agreement_protocols": ["curve25519-hkdf-sha256"], "hashes": ["sha256"]}
        told |= {"message_authentication_codes": ["hkdf-hmac-sha256"], "short_authentication_string": ["emoji"]}
    body = {"messages": {whom: {"*": told if content is None else content}}}
    path = f"/_matrix/client/v3/sendToDevice/m.key.verification.{kind}/{uuid4()}"
    answer = await user.raw("PUT", path, body)
    assert answer == {}, answer
