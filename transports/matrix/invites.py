"""Invitations: accepted from people who may invite, declined from everybody else. An upgraded room invites, too."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from nio import InviteMemberEvent

from gateway.errors import DeliveryRefused, TransportDown
from transports.matrix import events
from transports.matrix.backoff import insist
from transports.matrix.client import Client
from transports.matrix.config import NAME

log = logging.getLogger(__name__)

_NOTHING: dict[str, list[str]] = {"types": []}
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 300.0
#: A join may have to reach other servers first.
_JOIN_S = 60.0


@dataclass(frozen=True, slots=True)
class _Invitation:
    """One that waits for an answer.

    Attributes:
        due: when to try, on the monotonic clock.
        patience_s: seconds to wait after the next failure.
        upgrade: nobody sent an invitation; the inviter upgraded a room that the bot is in to this one.
    """

    inviter: str
    due: float
    patience_s: float
    upgrade: bool = False


class Invites:
    """Invitations that wait for an answer."""

    def __init__(self, client: Client, may_invite: Callable[[str], bool]) -> None:
        self._client = client
        self._may_invite = may_invite
        self._open: dict[str, _Invitation] = {}
        self._changed = asyncio.Event()

    def see(self, response: Any) -> None:
        """Take note of the invitations in a sync response, and of rooms that no longer have one."""
        for room_id in (*response.rooms.join, *response.rooms.leave):
            self._open.pop(room_id, None)
        for info in response.rooms.join.values():
            for event in (*info.state, *info.timeline.events):
                self._follow(event.source)
        for room_id, info in response.rooms.invite.items():
            for event in info.invite_state:
                if isinstance(event, InviteMemberEvent) and event.membership == "invite":
                    self._note(room_id, event.state_key, event.sender)
        self._changed.set()

    def _follow(self, event: Mapping[str, Any]) -> None:
        room_id, by = events.successor(event), event.get("sender")
        if not room_id or room_id in self._client.rooms or room_id in self._open or not isinstance(by, str):
            return
        if self._may_invite(f"{NAME}:{by}"):  # else somebody who may invite us will
            self._open[room_id] = _Invitation(by, time.monotonic(), _FIRST_RETRY_S, upgrade=True)

    def _note(self, room_id: str, whom: object, inviter: object) -> None:
        if whom != self._client.user_id or not isinstance(inviter, str):
            return
        known = self._open.get(room_id)
        if known is None or known.upgrade or known.inviter != inviter:
            self._open[room_id] = _Invitation(inviter, time.monotonic(), _FIRST_RETRY_S)

    async def _rescan(self) -> None:
        """Find the invitations from before this start: a sync that continues from a token leaves them out."""
        # The homeserver keeps answers for a while: a filter that was never asked before gets a fresh one.
        kinds = {"timeline": _NOTHING, "state": _NOTHING, "ephemeral": _NOTHING, "account_data": _NOTHING}
        room = kinds | {"not_rooms": [f"!{secrets.token_hex(8)}:invalid"]}
        wanted = json.dumps({"room": room, "presence": _NOTHING, "account_data": _NOTHING})
        path = f"/_matrix/client/v3/sync?timeout=0&set_presence=offline&filter={quote(wanted)}"
        answer = await self._client.api("GET", path, {})
        for room_id, info in answer.get("rooms", {}).get("invite", {}).items():
            for event in info["invite_state"]["events"]:
                if event.get("type") == "m.room.member" and event.get("content", {}).get("membership") == "invite":
                    self._note(room_id, event.get("state_key"), event.get("sender"))

    async def run(self) -> None:
        """Answer invitations until cancelled.

        Raises:
            TransportRefused: the account cannot be used.
        """
        await self._changed.wait()  # the first sync, so that what is said after joining counts
        try:
            await insist(self._rescan)
        except DeliveryRefused as error:
            log.warning("matrix: no older invitations: %s", error)
        while True:
            self._changed.clear()
            room_id = min(self._open, key=lambda room: self._open[room].due, default=None)
            wait_s = None if room_id is None else self._open[room_id].due - time.monotonic()
            if room_id is None or (wait_s is not None and wait_s > 0):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait_s)
                continue
            await self._answer(room_id)

    async def _answer(self, room_id: str) -> None:
        invitation = self._open[room_id]
        again = await self._try(room_id, invitation)
        # Another one may have come for the same room meanwhile.
        if self._open.get(room_id) is invitation:
            if again is None:
                del self._open[room_id]
            else:
                self._open[room_id] = again

    async def _try(self, room_id: str, invitation: _Invitation) -> _Invitation | None:
        """Answer an invitation; if that fails for now, return it to be tried again later."""
        inviter = invitation.inviter
        try:
            if self._may_invite(f"{NAME}:{inviter}"):
                await self._join(room_id, inviter)
                log.info("matrix: joined %s, invited by %s", room_id, inviter)
            else:
                await self._client.call(self._client.room_leave(room_id))
                log.info("matrix: declined the invitation of %s to %s", inviter, room_id)
        except TransportDown as error:
            pause_s = max(invitation.patience_s, error.retry_after_s or 0.0)
            patience_s = min(2 * invitation.patience_s, _LAST_RETRY_S)
            return replace(invitation, due=time.monotonic() + pause_s, patience_s=patience_s)
        except DeliveryRefused as error:
            what = "upgraded room" if invitation.upgrade else "invitation"
            log.warning("matrix: the %s of %s (%s) came to nothing: %s", what, inviter, room_id, error)
        return None

    async def _join(self, room_id: str, inviter: str) -> None:
        # Room ids no longer have to name a server, so the request does.
        server = quote(inviter.partition(":")[2])
        path = f"/_matrix/client/v3/join/{quote(room_id)}?via={server}&server_name={server}"
        await self._client.api("POST", path, {}, deadline_s=_JOIN_S)
