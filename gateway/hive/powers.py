"""What agents may do: a level for each command, and what operators granted beyond it.

A command that is *free* is carried out at once; one to *ask* for, once a person allowed it on a card; one that *never*
is an agent's cannot be granted either: it would raise an agent's own power, or is about the people. That holds for an
agent's own project. What is about another one, or about all, needs a grant: of the command itself, which spares the
card, too; or of a set, which opens the projects and leaves the level as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from gateway.config import Role
from gateway.errors import UserError
from gateway.store import Store, agent_grants
from gateway.store.agent_grants import AgentGrant

Level = Literal["free", "ask", "never"]

#: The set that opens other projects.
LEAD = "lead"
#: What lets an agent call outside of a run, at the word of whoever granted it.
BACKGROUND = "background"
SETS = {
    LEAD: "every command that is not a person's, over other projects; those to ask for are asked for",
    BACKGROUND: "free commands outside of a run",
}


class Graded(Protocol):
    """A command, as far as its level is concerned. `beyond`: it is about all projects, if it names none."""

    usage: str
    summary: str
    role: Role
    level: Level


class NotGranted(UserError):
    """An agent may not do that; the text says what an operator could type."""


class Powers:
    """See the module. `name_of`: a living project's name; empty for any other."""

    def __init__(self, store: Store, commands: Sequence[Graded], name_of: Callable[[int], str]) -> None:
        self._store = store
        self._commands = commands
        self._name_of = name_of
        #: All that is granted: only this class changes it, and it hears of projects that go.
        self._granted: list[AgentGrant] = []
        #: What each project's agent is told, until something else is granted: every message asks for it.
        self._told: dict[int, str] = {}

    def gone(self, project_id: int) -> None:
        """A project was deleted, and what was granted to it, or over it."""
        self._granted = [one for one in self._granted if project_id not in (one.project_id, one.over_id)]
        self._told.clear()

    async def recover(self) -> None:
        """Read what was granted."""
        self._granted = await self._store.read(agent_grants.everything)
        self._told.clear()

    def granted(self) -> list[AgentGrant]:
        """Everything that was granted to living projects, oldest first."""
        return [grant for grant in self._granted if self._name_of(grant.project_id)]

    async def grant(self, project_id: int, power: str, over_id: int | None, by: str) -> bool:
        """Grant a command or a set; False if it is granted already. Raises UserError for what no agent may have."""
        if power not in SETS:
            command = self.command(power)
            if command.level == "never":
                raise UserError(f"`{power}` is for people; it cannot be granted to an agent.")
            if command.level == "free" and over_id == project_id:
                raise UserError(f"Every agent may use `{power}` about its own project; there is nothing to grant.")
        added = await self._store.write(lambda c: agent_grants.add(c, project_id, power, over_id, by))
        await self.recover()
        return added

    async def revoke(self, grant_id: int) -> bool:
        """Take a grant back; False if there is none of that number."""
        dropped = await self._store.write(lambda c: agent_grants.drop(c, grant_id))
        await self.recover()
        return dropped

    def command(self, power: str) -> Graded:
        """The command of these words. Raises UserError."""
        for command in self._commands:
            if words_of(command) == power:
                return command
        sets = " and ".join(f"`{name}`" for name in SETS)
        raise UserError(
            f"There is no command `{power}` to grant. Type `help` to see them all; {sets} are sets of them."
        )

    # --- for a call --------------------------------------------------------------------------------------------------

    def level(self, project_id: int, command: Graded, over_id: int | None) -> Level:
        """How a project's agent may use a command over that project; over all, for None.

        Raises NotGranted: not at all, or not over that one.
        """
        found = _level(self._granted, project_id, command, over_id)
        if found == "never":
            raise NotGranted(f"`{words_of(command)}` is for people. Tell whoever you work for what they should type.")
        if found is None:
            name, words = self._name_of(project_id), words_of(command)
            to = "all" if over_id is None else self._name_of(over_id)
            own = f" About your own it is `{words} {name}`." if over_id is None and "[project]" in command.usage else ""
            raise NotGranted(
                f"You may not use `{words}` about {'all projects' if over_id is None else to}.{own} "
                f"An operator can allow it: `grant {name} {words} to {to}`."
            )
        return found

    def background(self, project_id: int) -> str:
        """Who let a project's agent call outside of a run; empty: nobody did."""
        mine = [grant for grant in self._granted if grant.project_id == project_id and grant.power == BACKGROUND]
        return mine[-1].granted_by if mine else ""

    # --- what an agent is told ---------------------------------------------------------------------------------------

    def usable(self, project_id: int) -> list[tuple[Graded, Level]]:
        """The commands that a project's agent may use over its own project, or any other, and how."""
        others: list[int | None] = [None, *(grant.over_id for grant in self._granted if grant.over_id is not None)]
        found: list[tuple[Graded, Level]] = []
        for command in self._commands:
            for over_id in (project_id, *others):
                level = _level(self._granted, project_id, command, over_id)
                if level is not None and level != "never":
                    found.append((command, level))
                    break
        return found

    def told(self, project_id: int) -> str:
        """What an agent is told about its commands, in a few words: it is in every prompt."""
        if (told := self._told.get(project_id)) is None:
            told = self._told[project_id] = self._tell(project_id)
        return told

    def _tell(self, project_id: int) -> str:
        lines = [
            f"- {command.usage}: {command.summary}{' (asks a person first)' if level == 'ask' else ''}"
            for command, level in self.usable(project_id)
        ]
        reach = self._reach(project_id)
        return (
            "Carry out a command of huskies, the gateway that this project belongs to, at the word of whoever you work "
            "for. The result is what a person would read. The same works in a shell: `huskies <command>`. Commands:\n"
            + "\n".join(lines)
            + (f"\nA project that you name may be another one: {reach}." if reach else "")
        )

    def _reach(self, project_id: int) -> str:
        told = []
        for grant in self._granted:
            if grant.project_id != project_id or grant.power == BACKGROUND or grant.over_id == project_id:
                continue
            over = "any" if grant.over_id is None else self._name_of(grant.over_id)
            told.append(f"{over}, for {'all of these' if grant.power == LEAD else grant.power}")
        return "; ".join(told)


def words_of(command: Graded) -> str:
    """The fixed words that a command begins with."""
    return command.usage.partition(" <")[0].partition(" [")[0]


def _level(granted: Iterable[AgentGrant], project_id: int, command: Graded, over_id: int | None) -> Level | None:
    """The level of a command, for the agent of a project, over another one, or over all; None: not granted."""
    if command.level == "never":
        return "never"
    mine = {grant.power for grant in granted if grant.project_id == project_id and grant.covers(over_id)}
    if words_of(command) in mine:
        return command.level if getattr(command, "always_asks", False) else "free"
    return command.level if over_id == project_id or LEAD in mine else None


def over(command: Graded, own: int, named: int | None) -> int | None:
    """Which project a command is about, for the agent of `own` that named another one, or none."""
    if named is not None:
        return named
    return None if getattr(command, "beyond", False) else own
