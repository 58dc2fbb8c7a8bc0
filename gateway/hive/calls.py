"""What becomes of a command that an agent asks for: carried out, asked about on a card, or refused.

A call has the lesser of two: what its agent may do, and what the people may at whose word its project works just now.
Of all of them, as whatever runs in a container could call for any run in it. Its card is answered by whoever may type
that command themselves. So nobody gains anything by having an agent do it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.asking import Questions, cards
from gateway.config import Access, Role
from gateway.errors import UserError
from gateway.hive.powers import Graded, Powers, over, words_of
from gateway.projects import Registry
from gateway.store import Store, conversations
from gateway.store.conversations import Destination
from gateway.store.messages import StoredMessage
from gateway.store.turns import Turn
from gateway.turns import Dispatcher

#: The transport that calls come by; see `transports.agents`.
TRANSPORT = "agent"
CHANGED = "What it would change is no longer what people were shown: nothing was done. Call it again."
OVER = "Its run is over: nothing was done."
NO_RUN = (
    "There is no run of yours under way, so this is at nobody's word. Ask whoever you work for to send you a message; "
    "an operator can allow it without one: `grant {name} background`."
)


@dataclass(frozen=True, slots=True)
class CallId:
    """What the sled calls a call, and the message that it becomes: the project's id keeps sleds apart."""

    project_id: int
    run: str
    call: str

    @classmethod
    def of(cls, external_id: str) -> CallId:
        """Read it from a message's id."""
        project_id, run, call = external_id.split("/")
        return cls(int(project_id), run, call)

    def __str__(self) -> str:
        return f"{self.project_id}/{self.run}/{self.call}"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may be carried out: as whom, and where people are told of its effect.

    `allowed_by`: who allowed it on a card, if that was asked; `foreseen`: what the card was about.
    """

    role: Role
    room: Destination | None
    allowed_by: str = ""
    foreseen: object = None


class Declined(UserError):
    """People did not allow a call, or nobody answered; `why`, for whoever reads of it later."""

    def __init__(self, told: str, why: str) -> None:
        super().__init__(told)
        self.why = why


def needs(command: Graded) -> Role:
    """The role of a person who may have a command do what agents would have it do."""
    found: Role = getattr(command, "acting_role", command.role)
    return found


@dataclass(frozen=True, slots=True)
class Calls:
    """See the module."""

    store: Store
    access: Access
    powers: Powers
    questions: Questions
    dispatcher: Dispatcher
    projects: Registry

    def name_of(self, project_id: int) -> str:
        """The name of a living project; empty for any other."""
        return self.projects.name_of(str(project_id), "")

    @staticmethod
    def is_call(message: StoredMessage) -> bool:
        """Whether a message is what an agent asks for."""
        return message.conversation.transport == TRANSPORT and not message.conversation.thread

    async def admit(
        self, message: StoredMessage, command: Graded, arguments: Mapping[str, str], effect: str, difference: str = ""
    ) -> Admitted:
        """Let a call pass, after asking people if need be; `effect` and `difference` say what it would do, for them.

        Raises UserError: it is refused; the text is for the agent.
        """
        call = CallId.of(message.external_id)
        named = arguments.get("project")
        over_id = over(command, call.project_id, None if named is None else self.projects.get(named).id)
        level = self.powers.level(call.project_id, command, over_id)
        turn = self.turn_of(call)
        if turn is None:
            return self._in_background(call, command, level)
        role = self._least_role(call.project_id)
        room, needed = await self.room_of(turn), needs(command)
        if level == "free" and role >= needed:
            return Admitted(role, room)
        told = {"command": message.text, "agent": self.name_of(call.project_id), "effect": effect}
        told |= {"difference": difference} if difference else {}
        # What differs each time is not allowed for a session.
        rule = "" if getattr(command, "always_asks", False) or difference else f"{cards.COMMAND} {message.text}"
        allowed_by = await self._ask(turn, message, told, rule, operators_only=role < needed)
        return Admitted(max(role, needed), room, allowed_by)

    def word(self, call: CallId) -> str:
        """At whose word a call is made; empty if its run is not under way."""
        if (turn := self.turn_of(call)) is not None:
            return turn.requested_by
        return "" if call.run else self.powers.background(call.project_id)

    async def room_of(self, turn: Turn) -> Destination:
        """Where people read what concerns a turn: where it was asked for, or where the chain of its notes began."""
        first = turn.batch[0]
        if (room_id := first.room_id) is None:
            return first.destination
        return (await self.store.read(lambda c: conversations.by_id(c, room_id))).destination

    def turn_of(self, call: CallId) -> Turn | None:
        """The open turn that a call was made in."""
        running = self.dispatcher.running_in(call.project_id)
        return next((turn for turn in running if turn.run == call.run), None)

    def _in_background(self, call: CallId, command: Graded, level: str) -> Admitted:
        if call.run:
            raise UserError(OVER)
        name = self.name_of(call.project_id)
        granted_by = self.powers.background(call.project_id)
        if not granted_by:
            raise UserError(NO_RUN.format(name=name))
        role = self.access.role(granted_by)
        if level == "ask" or role < needs(command):
            raise UserError(f"`{words_of(command)}` needs a person's word: call it in a run.")
        return Admitted(role, None)

    def _least_role(self, project_id: int) -> Role:
        """The least that any of those may at whose word a project works now."""
        return min(map(self.access.role, self.dispatcher.people_served(project_id)), default=Role.NOBODY)

    async def _ask(
        self, turn: Turn, message: StoredMessage, told: Mapping[str, str], rule: str, *, operators_only: bool
    ) -> str:
        """Who allowed it. Raises UserError."""
        arguments = json.dumps(told, ensure_ascii=False)
        answer = await self.questions.permission(
            turn,
            tool=cards.COMMAND,
            arguments=arguments,
            rule=rule,
            name=message.external_id,
            operators_only=operators_only,
        )
        if not answer.allowed:
            raise Declined(answer.told, answer.why)
        if answer.shown != arguments:  # the card is of an earlier life of this process
            raise UserError(CHANGED)
        return answer.by
