"""One platform: its steps, its answers, a look at all of them together, and who may command the bot there."""

from __future__ import annotations

import re

from gateway.app.inspection import look
from gateway.chat.finding import Finding
from gateway.chat.guide import Answers, Guide, Step
from gateway.cli.init.asker import Asker
from gateway.cli.init.checking import Checker
from gateway.cli.init.draft import Draft
from gateway.web import public_url

_ADDRESS = """
     Platforms post to an https:// address of yours: a TLS proxy, or a tunnel, that passes /healthz, /webhooks/ and
     /media/ on to {listen}, where the gateway listens. Do not pass on /metrics and /readyz."""


class OnePlatform:
    """Sets up one platform after the other, on one draft."""

    def __init__(self, asker: Asker, draft: Draft) -> None:
        self._asker = asker
        self._say = asker.tell
        self._draft = draft
        self._checker = Checker(asker, draft)
        self._address = ""

    def set_up(self, guide: Guide) -> str:
        """Ask for everything, and lay it over the draft once that is done; what to do when the gateway runs.

        Raises:
            Skipped: the draft is as it was.
        """
        self._asker.say(f"\n{guide.title}")
        answers: dict[str, str] = {}
        explain = True
        while True:
            self._steps(guide, answers, explain=explain)
            address = {"gateway.public_url": self._address} if self._address else {}
            settings = self._draft.settings(_keys(guide, answers) | address)
            if self._checker.goes_on(look(settings, guide.name), guide.title):
                break
            explain = False
        operators = self._operators(guide)
        on = f"transports.{guide.name}.enabled"
        for key, value in (_keys(guide, answers) | address).items():
            if value or self._draft.get(key) is not None:
                self._draft.set(key, value)
        if self._draft.get(on) is False:
            self._draft.set(on, True)
        self._draft.set("access.operators", operators)
        return guide.then(answers, self._address)

    def _steps(self, guide: Guide, answers: dict[str, str], *, explain: bool) -> None:
        """Go through the steps; `explain` shows what to click, too. Raises Skipped."""
        number = 0
        for step in guide.steps:
            if not step.needed(answers):
                answers.pop(step.key, None)
                continue
            if guide.needs_address(answers) and not self._address:
                self._address = self._public_url()
            number += 1
            if explain:
                text = step.text.replace("{address}", self._address)
                self._say(text, bullet=f"  {number}. ")
                self._offer(step)
            if step.key:
                answers[step.key] = self._answer(guide, step, answers)

    def _answer(self, guide: Guide, step: Step, answers: Answers) -> str:
        """What is pasted for one step; its form is what the configuration takes. Raises Skipped."""
        section = f"transports.{guide.name}"
        default = answers.get(step.key) or self._draft.text(f"{section}.{step.key}")
        question = f"     {step.question}"
        if step.choices:
            return self._asker.choose(question, step.choices, default or step.choices[0])
        stand_ins = {key: value for key, value in guide.stand_ins.items() if not self._draft.text(f"{section}.{key}")}
        return self._asker.ask(
            question,
            default=default,
            secret=step.secret,
            optional=step.optional,
            complain=lambda answer: self._checker.complaint(_keys(guide, {**stand_ins, **answers, step.key: answer})),
        )

    def _offer(self, step: Step) -> None:
        """Show what has to be pasted elsewhere, if that is wanted. Raises Skipped."""
        if step.shows is None:
            return
        text, name = step.shows
        file = self._draft.file.absolute().parent / name
        match self._asker.choose(f"     Print it, write it to {file}, or neither", ("print", "file", "no"), "print"):
            case "print":
                self._asker.say(text())
            case "file":
                try:
                    file.write_text(text() + "\n")
                    self._say(f"     It is in {file}.")
                except OSError as error:
                    self._say(f"     {file} cannot be written ({error.strerror}), so here it is:")
                    self._asker.say(text())

    def _operators(self, guide: Guide) -> list[str]:
        """Who may do everything, on any platform, once this one's are known. Raises Skipped."""
        prefix = f"{guide.name}:"
        before = list(self._draft.get("access.operators") or [])
        there = [sender.removeprefix(prefix) for sender in before if sender.startswith(prefix)]
        self._say(f"  Who may make, change and delete projects there? {guide.operator.text}")

        def complain(answer: str) -> str:
            for name in _accounts(answer, prefix):
                if not guide.operator.pattern.fullmatch(name):
                    return f"{name} is not one; they look like {guide.operator.example}"
                if told := self._checker.complaint({"access.operators": [f"{prefix}{name}"]}):
                    return told
            return ""

        answer = self._asker.ask("     Operators", default=", ".join(there), complain=complain)
        wanted = [f"{prefix}{name}" for name in _accounts(answer, prefix)]
        kept = [sender for sender in before if not sender.startswith(prefix) or sender in wanted]
        return list(dict.fromkeys([*kept, *wanted]))

    def _public_url(self) -> str:
        """The public address, fetched from here through whatever stands in front. Raises Skipped."""
        listen = self._draft.settings().gateway.listen
        self._say(_ADDRESS.format(listen=listen))
        address = self._draft.text("gateway.public_url")
        while True:
            address = self._asker.ask(
                "     public_url, e.g. https://bot.example.org",
                default=address,
                complain=lambda answer: self._checker.complaint({"gateway.public_url": answer}),
            ).rstrip("/")
            if self._checker.goes_on(_fetched(address, listen), "it"):
                return address


async def _fetched(address: str, listen: str) -> list[Finding]:
    """Whether an address leads to where the gateway will listen: something stands in for it meanwhile."""
    async with public_url.stand_in(listen) as life:
        return [await public_url.check(address, listen, life)]


def _keys(guide: Guide, answers: Answers) -> dict[str, str]:
    return {f"transports.{guide.name}.{key}": value for key, value in answers.items()}


def _accounts(text: str, prefix: str) -> list[str]:
    """The accounts in an answer, separated by commas; a phone number may have spaces in it."""
    return [re.sub(r"[\s()]", "", part).removeprefix(prefix) for part in text.split(",") if part.strip()]
