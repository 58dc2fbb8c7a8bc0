"""page, sessions web: the page in the browser."""

from __future__ import annotations

from gateway import clock
from gateway.chat.text import seconds
from gateway.config import Role
from gateway.errors import UserError
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.intake.logins import LINK_FOR_S
from gateway.store import Connection, conversations


class PageLink:
    """A link that logs you in to the page, as you are here and with your role. It is good once, for five minutes, and
    comes to you alone: in a room with others, to where you last wrote to the bot directly."""

    usage = "page"
    summary = "a link to the page in the browser, for you alone"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = False

    async def run(self, ctx: CommandContext) -> str:
        message, services = ctx.message, ctx.services
        transport, name = message.conversation.transport, message.sender_name

        def look(connection: Connection) -> tuple[bool, conversations.StoredConversation | None]:
            here = conversations.by_id(connection, message.conversation_id)
            return here.direct, conversations.direct_with(connection, transport, message.sender)

        is_direct, alone = await services.store.read(look)
        if not is_direct and alone is None:
            raise UserError("The link is for you alone, and others read along here. Write `page` to me directly.")
        told = _told(services.logins.link(message.sender, name), name, reaches=services.logins.where.is_public)
        if is_direct or alone is None:
            return told
        await services.store.write(lambda c: services.outbox.add(c, alone.destination, told, notifies=True))
        services.outbox.wake(alone.conversation)
        return "The link is for you alone: I sent it to you directly."


class WebSessions:
    """Where you are logged in to the page, with when each was last used. `sessions web end 2` logs one out, `sessions
    web end` all of them."""

    usage = "sessions web"
    summary = "where you are logged in to the page"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        mine = ctx.services.logins.of(ctx.message.sender)
        if not mine:
            return "You are not logged in to the page anywhere. `page` sends you a link."
        lines = [
            f"{one.id}. {one.device}, since {seconds(clock.since(one.began_at))}, "
            f"last used within {seconds(max(3600.0, clock.since(one.seen_at)))}"
            for one in mine
        ]
        return "\n".join([*lines, f"`sessions web end {mine[0].id}` logs one out, `sessions web end` all of them."])


class EndWebSessions:
    """Logs one of your browsers out of the page, or all of them without a number. `sessions web` lists them."""

    usage = "sessions web end [number]"
    summary = "log out of the page, in one browser or everywhere"
    role = Role.MEMBER
    level: Level = "never"
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        logins, number = ctx.services.logins, ctx.get("number")
        mine = [one for one in logins.of(ctx.message.sender) if number is None or one.id == int(number)]
        if not mine:
            raise UserError("You are not logged in there. `sessions web` lists where you are.")
        for one in mine:
            await logins.end(one)
        return "\n".join(f"Logged out: {one.device}." for one in mine)


def _told(link: str, name: str, *, reaches: bool) -> str:
    lines = [f"This logs you in to the page{f' as {name}' if name else ''}, once, within {seconds(LINK_FOR_S)}:", link]
    if not reaches:
        lines.append(
            "It opens in a browser on the gateway's machine. A phone cannot reach it until an operator sets "
            "`gateway.public_url`."
        )
    return "\n".join(lines)
