"""What people answer to questions: words, commands and presses; who may answer, and which question is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.asking import cards
from gateway.asking.people import name_of
from gateway.asking.questions import Answer, Questions
from gateway.chat import wording
from gateway.config import Person, Role
from gateway.delivery import Outbox
from gateway.errors import UserError
from gateway.store.messages import StoredMessage
from gateway.store.questions import Asked, Outcome


@dataclass(frozen=True, slots=True)
class Answers:
    """See the module. Each returns what to say to whoever answered, and raises UserError."""

    questions: Questions
    outbox: Outbox
    people: Mapping[str, Person]

    async def take(self, message: StoredMessage, role: Role) -> str | None:
        """Take a message that is not a command, if it answers what is asked in its conversation.

        None: it is meant for the agent, like everything that comes with a file.
        """
        if message.files:
            return None
        mine = [asked for asked in self.questions.open_in(message.conversation_id) if _may(asked, message, role)]
        text = message.text.strip()
        if any(asked.body.kind == "permission" for asked in mine):
            said = wording.plainly(text)
            if said in cards.YES:
                return await self.allow(message, role, None, session=False)
            if said in wording.SOFT_YES:
                return await self._allow_softly(message, role)
            if said in cards.NO_WORDS:
                return await self.deny(message, role, None, "")
            if (no := cards.NO.fullmatch(text)) is not None:
                number, why = no["number"], (no["why"] or "").strip()
                if number and len(self._asked(message, "permission")) < 2:  # "no 3 tests fail": nothing is numbered
                    number, why = None, f"{number} {why}".strip()
                return await self.deny(message, role, number, why)
        queries = [asked for asked in mine if asked.body.kind == "query"]
        if not queries or not text:
            return None
        if (one := cards.ANSWER.fullmatch(text)) is not None:
            return await self.answer(message, role, one["number"], one["words"])
        queries = [asked for asked in queries if asked.turn_id is not None or cards.decides(text)]
        return await self._answer(queries[0], message, text) if queries else None

    def is_elsewhere(self, text: str) -> bool:
        """Whether words answer a question that is open, by its number everywhere."""
        said = cards.ELSEWHERE.fullmatch(text.strip())
        return said is not None and self._by_id(int(said["id"])) is not None

    async def elsewhere(self, message: StoredMessage, role: Role) -> str | None:
        """Take such an answer; None: its question is closed by now."""
        said = cards.ELSEWHERE.fullmatch(message.text.strip())
        if said is None or self._by_id(int(said["id"])) is None:
            return None
        if said["verb"].lower() == "answer":
            return await self.answer(message, role, f"#{said['id']}", said["words"])
        return await self.deny(message, role, f"#{said['id']}", said["words"])

    def names_option(self, message: StoredMessage) -> bool:
        """Whether a message is, word for word, an option of what is asked in its conversation."""
        said = message.text.strip().casefold()
        return any(
            said == option.label.strip().casefold()
            for asked in self._asked(message, "query")
            for query in asked.body.queries
            for option in query.options
        )

    async def _allow_softly(self, message: StoredMessage, role: Role) -> str:
        """Words that are less than agreed ones allow one thing, once, where it is clear which."""
        asked, *more = self.questions.open_in(message.conversation_id)
        if more:
            raise UserError("Several questions are open. Answer one with its number: `allow 1` or `deny 1`.")
        if asked.own:
            raise UserError(f"That is too little for this one. Type `allow` or `deny`.\n{cards.summary(asked.body)}")
        return await self.allow(message, role, None, session=False)

    async def pressed(self, message: StoredMessage, role: Role) -> str:
        """Take a press of a card's button."""
        for asked in self.questions.cards_in(message.conversation):
            assert asked.card_id is not None
            if await self.outbox.stands_at(asked.card_id) != message.presses:
                continue
            if message.text not in cards.choices(asked) or self.questions.is_past(asked):
                return ""
            if asked.body.kind == "query":
                options = asked.body.queries[len(asked.answers)].options
                self._check(asked, message, role)
                return await self._answer(asked, message, options[int(message.text) - 1].label)
            if message.text == "deny":
                return await self._decide(asked, message, role, "denied")
            return await self._decide(asked, message, role, "allowed", session=message.text == "allow session")
        return ""

    async def allow(self, message: StoredMessage, role: Role, number: str | None, *, session: bool) -> str:
        """Give a permission, once or for the session."""
        return await self._decide(self._find(message, "permission", number), message, role, "allowed", session=session)

    async def deny(self, message: StoredMessage, role: Role, number: str | None, why: str) -> str:
        """Deny a permission."""
        return await self._decide(self._find(message, "permission", number), message, role, "denied", why=why)

    async def answer(self, message: StoredMessage, role: Role, number: str | None, text: str) -> str:
        """Answer a question."""
        asked = self._find(message, "query", number)
        self._check(asked, message, role)
        return await self._answer(asked, message, text)

    def _asked(self, message: StoredMessage, kind: str) -> list[Asked]:
        return [asked for asked in self.questions.open_in(message.conversation_id) if asked.body.kind == kind]

    def _by_id(self, question_id: int) -> Asked | None:
        return next((asked for asked in self.questions.everything() if asked.id == question_id), None)

    def _find(self, message: StoredMessage, kind: str, number: str | None) -> Asked:
        if number is not None and number.startswith("#"):
            asked = self._by_id(int(number[1:]))
            if asked is None or asked.body.kind != kind:
                raise UserError(f"No question {number} of that kind is open. `open` shows what is asked anywhere.")
            return asked
        found = [asked for asked in self._asked(message, kind) if number in (None, str(asked.number))]
        if not found:
            raise UserError("No question of that kind is open here. Type `questions` to see what is asked.")
        if len(found) > 1:
            listed = "\n".join(f"{asked.number}. {cards.summary(asked.body)}" for asked in found)
            raise UserError(f"Several are open. Add the number of one (`allow 2`, `deny 2`):\n{listed}")
        return found[0]

    def _check(self, asked: Asked, message: StoredMessage, role: Role) -> None:
        if not (who := self.questions.who(asked)):
            raise UserError("That question is closed.")
        if not _may(asked, message, role):
            raise UserError(f"Only {who.replace('An ', 'an ')} can answer that.")

    async def _decide(
        self,
        asked: Asked,
        message: StoredMessage,
        role: Role,
        result: Outcome,
        *,
        session: bool = False,
        why: str = "",
    ) -> str:
        self._check(asked, message, role)
        if session and not asked.body.rule:
            raise UserError("This one can only be allowed once: type `allow`.")
        rule = asked.body.rule if session else ""
        name = name_of(message, self.people)
        answer = Answer(result, message.sender, name, rule or why, rule, message=message)
        return await self.questions.settle(asked, answer)

    async def _answer(self, asked: Asked, message: StoredMessage, text: str) -> str:
        if asked.turn_id is None and not cards.decides(text):
            raise UserError("That doesn't answer it. Reply with a number, `yes`, `no`, or an amount like `+5`.")
        answer = cards.read_answer(asked.body.queries[len(asked.answers)], text)
        if len(asked.answers) + 1 < len(asked.body.queries):
            return await self.questions.next_query(asked, answer, message)
        answers = (*asked.answers, tuple(answer))
        by = name_of(message, self.people)
        return await self.questions.settle(
            asked, Answer("answered", message.sender, by, answers=answers, message=message)
        )


def _may(asked: Asked, message: StoredMessage, role: Role) -> bool:
    return role is Role.OPERATOR or (bool(asked.requester) and message.sender == asked.requester)
