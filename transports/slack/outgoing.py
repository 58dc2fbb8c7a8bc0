"""Posting and editing; the same key is the same message."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from gateway.chat import Conversation, MessageRef, OutgoingFile, Reply
from gateway.errors import DeliveryRefused, TransportDown, TransportRefused
from transports.slack import blocks
from transports.slack.api import Api
from transports.slack.errors import BlocksRefused, Undone, code_of
from transports.slack.files import upload
from transports.slack.me import Me
from transports.slack.memory import Memory
from transports.slack.told import mapping, string

log = logging.getLogger(__name__)

#: Seconds back in time in which a post is looked for: the outbox gives up after a day.
_BACK_S = 25 * 3600.0
_PAGE, _PAGES = 200, 5
#: What Slack says of a thread whose first message was deleted, or that takes no replies.
_NO_THREAD = frozenset({"thread_not_found", "cannot_reply_to_message", "restricted_action_non_threadable_channel"})
#: Bytes of a file.
_MOST_FILE = 100 * 2**20
#: Bytes of a text without blocks: of a new message, and of an edited one.
_MOST_POSTED, _MOST_EDITED = 39_000, 3_900


class Outgoing:
    """What one logged-in bot sends."""

    def __init__(self, api: Api, me: Me, memory: Memory) -> None:
        self._api = api
        self._me = me
        self._memory = memory

    async def send(self, conversation: Conversation, reply: Reply, key: str) -> MessageRef:
        """Post a message. Raises as `Transport.send`."""
        if (known := await self._known(conversation, key)) is not None:
            return known
        try:
            try:
                data = await self._post(conversation, key, blocks.content(reply.text, reply.choices, reply.mentions))
            except BlocksRefused as error:
                log.warning("slack: %s; sending the words alone", error)
                data = await self._post(conversation, key, blocks.bare(reply.text, _MOST_POSTED))
        except Undone:
            raise
        except TransportDown:
            self._memory.doubt(conversation, key)
            raise
        return self._keep(conversation, key, string(data.get("ts")))

    async def edit(self, ref: MessageRef, reply: Reply) -> None:
        """Replace the text, and the buttons, of our message. Raises as `Transport.send`."""
        channel, ts = place(ref.external_id)
        if not ts:
            raise DeliveryRefused("that message cannot be edited")
        try:
            await self._update(channel, ts, blocks.content(reply.text, reply.choices))
        except BlocksRefused as error:
            log.warning("slack: %s; sending the words alone", error)
            await self._update(channel, ts, blocks.bare(reply.text, _MOST_EDITED))

    async def send_file(self, conversation: Conversation, file: OutgoingFile, reply: Reply, key: str) -> MessageRef:
        """Post a file. Raises as `Transport.send`."""
        if file.size > _MOST_FILE:
            raise DeliveryRefused(f"{file.name} has {file.size:,} bytes; Slack takes at most {_MOST_FILE:,}")
        if (known := await self._known(conversation, key)) is not None:
            return known
        file_id = await upload(self._api, file)
        try:
            await self._api.call(
                self._api.client.files_completeUploadExternal(
                    files=[{"id": file_id, "title": file.name}],
                    channel_id=conversation.room,
                    thread_ts=conversation.thread or None,
                    blocks=json.dumps(blocks.caption(reply.text or file.name, key)),
                )
            )
        except Undone:
            raise
        except TransportDown:
            self._memory.doubt(conversation, key)
            raise
        return self._keep(conversation, key, f"file:{file_id}")

    async def react(self, ref: MessageRef, emoji: str) -> None:
        """Put a reaction on a message. Raises as `Transport.send`."""
        channel, ts = place(ref.external_id)
        try:
            await self._api.call(self._api.client.reactions_add(channel=channel, timestamp=ts, name=emoji))
        except DeliveryRefused as error:
            if "already_reacted" not in str(error):
                raise

    async def _post(self, conversation: Conversation, key: str, content: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._post_in(conversation.room, conversation.thread, key, content)
        except DeliveryRefused as error:
            if not conversation.thread or code_of(error) not in _NO_THREAD:
                raise
            log.info("slack: %s is gone; the answer goes to its channel", conversation)
            return await self._post_in(conversation.room, "", key, content)

    async def _post_in(self, channel: str, thread: str, key: str, content: dict[str, Any]) -> dict[str, Any]:
        data, _ = await self._api.call(
            self._api.client.chat_postMessage(
                channel=channel,
                thread_ts=thread or None,
                metadata=blocks.metadata(key),
                link_names=False,
                # No link of an agent's is fetched without anybody asking.
                unfurl_links=False,
                unfurl_media=False,
                **content,
            )
        )
        return data

    async def _update(self, channel: str, ts: str, content: dict[str, Any]) -> None:
        await self._api.call(self._api.client.chat_update(channel=channel, ts=ts, link_names=False, **content))

    def _keep(self, conversation: Conversation, key: str, ts: str) -> MessageRef:
        external_id = f"{conversation.room}:{ts}"
        self._memory.keep(conversation, key, external_id)
        return MessageRef(conversation, external_id)

    async def _known(self, conversation: Conversation, key: str) -> MessageRef | None:
        """What was already posted with this key, here or by an earlier process."""
        if (external_id := self._memory.posted(conversation, key)) is not None:
            return MessageRef(conversation, external_id)
        if not self._memory.must_look(conversation, key):
            return None
        found = None
        async for message in self._newest(conversation):
            if message.get("user") != self._me.user_id:
                continue  # others may claim any key
            if blocks.stands_for(message, key):
                found = self._keep(conversation, key, string(message.get("ts")))
                break
        self._memory.looked(conversation, key)
        return found

    async def _newest(self, conversation: Conversation) -> AsyncIterator[dict[str, Any]]:
        """The messages of the last day, as far as a few requests reach."""
        client = self._api.client
        options: dict[str, Any] = {
            "channel": conversation.room,
            "oldest": f"{time.time() - _BACK_S:.6f}",
            "limit": _PAGE,
            "include_all_metadata": True,
        }
        for _ in range(_PAGES):
            try:
                if conversation.thread:
                    data, _ = await self._api.call(client.conversations_replies(ts=conversation.thread, **options))
                else:
                    data, _ = await self._api.call(client.conversations_history(**options))
            except TransportRefused:
                raise
            except DeliveryRefused as error:
                if conversation.thread and code_of(error) in _NO_THREAD:  # then its channel has the answer
                    async for message in self._newest(replace(conversation, thread="")):
                        yield message
                    return
                raise
            listed = data.get("messages")
            for message in listed if isinstance(listed, list) else []:
                if isinstance(message, dict):
                    yield message
            cursor = string(mapping(data.get("response_metadata")).get("next_cursor"))
            if not cursor:
                return
            options["cursor"] = cursor
        log.warning("slack: %s is so busy that an earlier reply may be missed; it would be posted again", conversation)


def place(external_id: str) -> tuple[str, str]:
    """Channel and timestamp of a message that can be edited or reacted to; empty for any other id."""
    channel, _, rest = external_id.partition(":")
    ts, _, kind = rest.partition(":")
    is_message = ts.replace(".", "", 1).isdigit() and not kind.startswith(("press", "edit"))
    return (channel, ts) if is_message else ("", "")
