"""open: what waits on whom."""

from __future__ import annotations

from gateway import clock
from gateway.asking import cards
from gateway.chat.text import quote, seconds
from gateway.config import Role
from gateway.hive.powers import Level
from gateway.intake import CommandContext
from gateway.store import Connection, messages
from gateway.store.messages import StoredMessage
from gateway.store.notes import Note


class Open:
    """What waits on whom, oldest first: questions to people, what agents asked each other, schedules that rest; of one
    project, if you name it. Members see the questions that are theirs to answer."""

    usage = "open [project]"
    summary = "what waits on whom"
    role = Role.MEMBER
    level: Level = "free"
    beyond = True
    repeatable = True

    async def run(self, ctx: CommandContext) -> str:
        projects, name = ctx.services.projects, ctx.get("project")
        wanted = None if name is None else projects.get(name).id
        lines: list[tuple[float, str]] = []
        example = ""
        for asked in ctx.services.questions.everything():
            mine = ctx.role is Role.OPERATOR or asked.requester in (ctx.message.sender, ctx.message.word)
            project = projects.by_id(asked.project_id)
            if project is not None and wanted in (None, project.id) and mine:
                who = ctx.services.questions.who(asked)
                told = f"#{asked.id} {project.name} asks {who}, in {asked.conversation}: {cards.summary(asked.body)}"
                example = example or f"#{asked.id}"
                lines.append((asked.asked_at, told))
        for note, text in await self._notes(ctx):
            sender, to = projects.by_id(note.from_id), projects.by_id(note.to_id)
            if sender is not None and to is not None and wanted in (None, sender.id, to.id):
                verb = "waits for" if note.asks else "told"
                lines.append((note.sent_at, f"{sender.name} {verb} {to.name}: {quote(text, 80)}"))
        for one in await ctx.services.schedules.of_project(wanted):
            if one.rests:
                project = projects.by_id(one.project_id)
                why = f"schedule {one.id} of {project.name if project else ''} rests: {one.last_error}"
                lines.append((one.made_at, why))
        if not lines:
            return "Nothing waits."
        shown = [f"- {line} ({seconds(clock.since(at))})" for at, line in sorted(lines)]
        how = [f"`allow {example}`", f"`no {example}, because …`", f"`answer {example} …`"] if example else []
        more = ["", f"Questions can be answered from here, too: {', '.join(how)}."] if how else []
        return "\n".join(["**Open**", *shown, *more])

    @staticmethod
    async def _notes(ctx: CommandContext) -> list[tuple[Note, str]]:
        found = await ctx.services.notes.under_way()

        def texts(connection: Connection) -> dict[int, StoredMessage | None]:
            return {note.id: messages.by_id_if_any(connection, note.message_id) for note in found}

        known = await ctx.services.store.read(texts)
        return [(note, message.text) for note in found if (message := known[note.id]) is not None]
