"""Hundreds of ordinary sentences that begin like commands: each is a prompt, as people mean it."""

from __future__ import annotations

import itertools

import pytest

from commands.table import ALIASES, COMMANDS
from gateway.errors import UserError
from gateway.intake import Command, Parsed, Parser

PROJECTS = ("shop", "api", "chief")
PARSER: Parser[Command] = Parser(COMMANDS, ALIASES)

OPENINGS = {
    "every": "time I open it|file in src has the old header|test should be fast|now and then it hangs|"
    "day I lose an hour|other request fails|hour it crashes once|one of these must go|single endpoint fails|bit helps",
    "remind": "me why we chose Redis|me of the plan|me what this does|the team of the freeze|users to confirm the "
    "e-mail with a banner|me how the retry works|me to call Bob|everyone of it",
    "remember": "to run the linter|that we use tabs here|the login page|me on the login page",
    "cancel": "the subscription when the card is declined|button does nothing|all jobs on shutdown|my last order",
    "retry": "the upload three times|logic is wrong|with a longer timeout|failed jobs automatically",
    "schedule": "the cleanup job at midnight|a cron job in the app|s are shown in UTC",
    "schedules": "in the app are shown in UTC|overlap in the calendar",
    "grant": "me access to the bucket|permissions to the role|users read access|applications need a review page",
    "grants": "in the database are too wide|are missing for the reporting user",
    "quiet": "the logger in tests|down the warnings|mode should be the default",
    "status": "page shows the wrong colour|codes should be enums|is null after the migration",
    "stop": "using tabs|the timer when the component unmounts|words should be filtered|writing comments everywhere",
    "help": "me understand this function|me write the migration|text of the CLI is wrong|us to find the leak",
    "new": "users see an empty page|project files need a licence header|tests should use the fixtures|lines are lost",
    "delete": "the dead code in utils|old migrations|users that never confirmed|everything below the fold",
    "up": "next is the search page|to you how you name it|until now this worked",
    "down": "the page there is a broken link|migrations are missing",
    "model": "the order as a state machine|names are inconsistent|validation is too strict",
    "usage": "text is out of date|of the cache is low|examples would help",
    "logs": "are too noisy|should have a request id|of yesterday show three errors",
    "projects": "page is slow|are listed twice|table needs an index",
    "questions": "about the design should go into the README|are stored twice",
    "diff": "the two configs and tell me what changed|view is broken on Firefox",
    "undo": "the last migration in the test database|button should restore the text",
    "reset": "the form after submit|the counter when a new day begins|password mails are not sent",
    "audit": "the dependencies for known holes|logging is missing in the admin|this module for SQL injection",
    "allow": "uploads of up to 10 MB|empty names in the form|guests to see prices",
    "deny": "requests without a token|by default in the firewall rules",
    "permissions": "in the admin are wrong|are checked twice|model needs a rewrite",
    "restart": "the worker when it leaks|button in the UI please|loop after a crash is wrong",
    "rebuild": "the index nightly|the search from scratch|time is too long",
    "switch": "to async IO in the client|the colours|statements should be exhaustive",
    "version": "the API under /v2|number is wrong in the footer|conflicts with numpy",
    "ssh": "keys are checked in by accident|config in the docs is outdated",
    "sessions": "expire too early|are kept in memory",
    "tell": "me why it fails|the user what went wrong|us what you changed",
    "ask": "the user before deleting|for the e-mail only once",
    "open": "the file lazily|questions are in the README|the dialog when a row is clicked",
    "bug": "in login|when two people save at once",
    "merge": "these two|the branches of the if|both handlers into one",
}
SENTENCES = [f"{word} {rest}" for word, rests in OPENINGS.items() for rest in rests.split("|")]
POLITE = [f"please {sentence}" for sentence in SENTENCES]
ASKED = [f"{sentence}?" for sentence in SENTENCES]


@pytest.mark.parametrize("sentence", [*SENTENCES, *POLITE, *ASKED])
def test_a_sentence_is_a_prompt(sentence: str) -> None:
    try:
        found = PARSER.parse(sentence, PROJECTS)
    except UserError as error:
        pytest.fail(f"refused: {error}")
    # What only agents type is a prompt of a person's, too: see the router.
    assert found is None or (isinstance(found, Parsed) and getattr(found.command, "agents_only", False))


def test_there_are_hundreds() -> None:
    assert len(set(itertools.chain(SENTENCES, POLITE, ASKED))) > 300
