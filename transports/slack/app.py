"""What people do in Slack besides writing: commands, shortcuts, buttons. Bolt knows how Slack wants each answered.

What such a thing means to a conversation is committed before Bolt begins, in the order in which it came; so whatever
Bolt answers is an acknowledgement. Plain messages do not go through Bolt: Slack expects no answer to them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp, AsyncBoltContext, AsyncBoltRequest, AsyncRespond
from slack_bolt.authorization import AuthorizeResult

from gateway.errors import TransportError
from transports.slack import errors
from transports.slack.api import Api
from transports.slack.config import NAME
from transports.slack.files import is_slacks
from transports.slack.intake import Payload
from transports.slack.me import Me
from transports.slack.told import string

log = logging.getLogger(__name__)
# Bolt logs what it is given, and those words belong to the conversation alone.
_bolt_log = logging.getLogger("slack_bolt.quiet")
_bolt_log.setLevel(logging.CRITICAL)

_ANY = re.compile("")
#: Seconds for a message that only one person sees.
_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What Slack is told about a payload; usually nothing."""

    body: Mapping[str, Any] | None = None


NOTHING = Acknowledgement()


class App:
    """The Bolt app of one workspace. `may_speak`: whether somebody is listed."""

    def __init__(self, api: Api, me: Me, api_base_url: str, may_speak: Callable[[str], bool]) -> None:
        self._base = api_base_url
        self._may_speak = may_speak
        self._tasks: set[asyncio.Task[None]] = set()

        async def authorize() -> AuthorizeResult:
            return AuthorizeResult(
                enterprise_id=None, team_id=me.team_id, bot_user_id=me.user_id, bot_token=api.client.token
            )

        self._bolt = AsyncApp(
            name=NAME,
            logger=_bolt_log,
            client=api.client,
            authorize=authorize,
            process_before_response=True,
            # Already checked at the door: the signature, who sent it, and whether it is new.
            request_verification_enabled=False,
            ssl_check_enabled=False,
            url_verification_enabled=False,
            ignoring_self_events_enabled=False,
            attaching_function_token_enabled=False,
        )
        self._bolt.command(_ANY)(self._command)
        self._bolt.shortcut(_ANY)(self._shortcut)
        self._bolt.action(_ANY)(self._acknowledge)
        self._bolt.view(_ANY)(self._acknowledge)
        self._bolt.view_closed(_ANY)(self._acknowledge)
        self._bolt.options(_ANY)(self._options)

    async def acknowledge(self, payload: Payload, committed: asyncio.Future[str]) -> Acknowledgement:
        """What to answer Slack, once what `payload` says is committed.

        Args:
            payload: as Slack sent it.
            committed: why nothing comes of it, for the person who did it; empty when it was taken.

        Raises StateError: it could not be committed, and must not be acknowledged.
        """
        why = await committed
        if payload.get("type") == "event_callback":
            return NOTHING
        request = AsyncBoltRequest(mode="socket_mode", body=dict(payload), context={"why": why})
        response = await self._bolt.async_dispatch(request)
        if response.status != 200:  # it came in all the same, and would only come again
            log.warning("slack: Bolt has no answer to a payload (%s)", string(payload.get("type"))[:40] or "command")
            return NOTHING
        return Acknowledgement(_body(response.body))

    async def close(self) -> None:
        """Say no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what Bolt calls ----------------------------------------------------------------------------------------------

    async def _command(self, ack: AsyncAck, context: AsyncBoltContext) -> None:
        if context["why"]:
            await ack(context["why"], response_type="ephemeral")
        elif self._may_speak(f"{NAME}:{context.user_id}"):
            # Slack hides what was typed, unless told otherwise: the answer would appear without its question.
            await ack({"response_type": "in_channel"})
        else:
            await ack()

    async def _shortcut(self, ack: AsyncAck, context: AsyncBoltContext, respond: AsyncRespond) -> None:
        if context["why"] and is_slacks(string(respond.response_url), self._base):
            self._in_background(_whisper(respond, context["why"]))
        await ack()

    @staticmethod
    async def _acknowledge(ack: AsyncAck) -> None:
        await ack()

    @staticmethod
    async def _options(ack: AsyncAck) -> None:
        await ack(options=[])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _whisper(respond: AsyncRespond, text: str) -> None:
    """Tell the person who asked, and nobody else."""
    try:
        with errors.translated():
            async with asyncio.timeout(_ANSWER_S):
                await respond(text, response_type="ephemeral")
    except TransportError as error:
        log.warning("slack: somebody could not be told why their shortcut does nothing: %s", error)


def _body(said: str) -> Mapping[str, Any] | None:
    """What Bolt says, as an object; nothing where it says nothing."""
    if not said:
        return None
    return dict(json.loads(said)) if said.startswith("{") else {"text": said}
