"""The grammar: what is a command, what is a prompt, what is nearly one."""

from __future__ import annotations

import pytest

from commands.page import page
from commands.table import ALIASES, COMMANDS
from gateway.chat import wording
from gateway.errors import UserError
from gateway.intake.command import Command
from gateway.intake.grammar import NearMiss, Parsed, Parser, Verbatim

PARSER = Parser(COMMANDS, ALIASES)
PROJECTS = {"demo", "web-shop"}


def parse(text: str) -> Parsed[Command] | NearMiss | Verbatim | None:
    return PARSER.parse(text, PROJECTS)


@pytest.mark.parametrize(
    ("text", "usage", "arguments"),
    [
        ("help", "help", {}),
        ("HELP", "help", {}),
        ("/help", "help", {}),
        ("help stop", "help", {"command": "stop"}),
        ("help new project", "help", {"command": "new project"}),
        ("new project demo2", "new project", {"new-name": "demo2"}),
        ("New Project x --stack rust --adopt", "new project", {"new-name": "x", "stack": "rust", "adopt": "yes"}),
        ("new project x --path='/a b'", "new project", {"new-name": "x", "path": "/a b"}),
        ("status", "status", {}),
        ("status Demo", "status", {"project": "demo"}),
        ("logs demo 50", "logs", {"project": "demo", "number": "50"}),
        ("logs 50", "logs", {"number": "50"}),
        ("stop", "stop", {}),
        ("confirm 7k2p", "confirm", {"code": "7k2p"}),
        ("confirm 7k2p demo", "confirm", {"code": "7k2p", "name": "demo"}),
        ("permissions allow", "permissions", {"auto|ask|allow": "allow"}),
        ("ambient on", "ambient", {"on|off": "on"}),
        ("delete web-shop --purge", "delete", {"project": "web-shop", "purge": "yes"}),
        ("all_status", "projects", {}),
        ("new project ../x", "new project", {"new-name": "../x"}),
        # Marks, capitals, courtesy and long dashes say nothing.
        *(
            (said, "stop", {})
            for said in ("Stop!", "STOP!!!", "stop.", "Please stop", "stop it please", "Hey, stop that!")
        ),
        *(
            (said, "stop", {})
            for said in ("stoooop", "stop stop stop", "No, stop!", "Cancel that.", "🛑 stop 🛑", "Abort!")
        ),
        *((said, "stop", {}) for said in ("/stop!", "can you stop, please?", "stop now!!")),
        ("Allow.", "allow", {}),
        ("allow session, please", "allow", {"session|always": "session"}),
        ("Status?", "status", {}),
        ("status web-shop please", "status", {"project": "web-shop"}),
        ("new project x —git https://example.org/x", "new project", {"new-name": "x", "git": "https://example.org/x"}),
        ("new project x –stack rust", "new project", {"new-name": "x", "stack": "rust"}),
        ("new project x https://example.org/x", "new project", {"new-name": "x", "git": "https://example.org/x"}),
        ("new project x git@example.org:x.git", "new project", {"new-name": "x", "git": "git@example.org:x.git"}),
        ("/clear", "reset", {}),
    ],
)
def test_commands(text: str, usage: str, arguments: dict[str, str]) -> None:
    found = parse(text)
    assert isinstance(found, Parsed)
    assert found.command.usage.startswith(usage)
    assert found.arguments == arguments


@pytest.mark.parametrize(
    "text",
    [
        "stop the dev server",
        "status of the build?",
        "switch to the new API",
        "hello",
        "show me",
        "new project idea: a blog that writes itself",
        "don't restart",
        "please help",
        "logs are noisy",
        "delete the old tests",
        "",
        "restart nothing-here",
        "what\nstop",
        "help me with the build",
        "stop " + "x" * 100_000,
        *(
            "stop using tabs",
            "> stop",
            ">stop",
            "stop\nthe server",
            "Stop the dev server, please.",
            "please stop worrying about tests",
            "cancel the booking page",
        ),
        *("start", "build", "step", "tasks", "sup", "tests", "mode", "deploy", "restrat the server when you are done"),
        *("/etc/hosts", "/src/app.py is wrong", "~/notes.md", "./run.sh fails", "../x", "//"),
        *("new project for the team", "yes", "sure", "thanks"),
    ],
)
def test_prompts(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("new porject x", "new project x"),
        ("nwe project x --stack rust", "new project x --stack rust"),
        ("statsu", "status"),
        ("stauts dmeo", "status demo"),
        ("status dmeo", "status demo"),
        ("restrat", "restart"),
        ("permissions alow", "permissions allow"),
    ],
)
def test_near_misses(text: str, meant: str) -> None:
    assert parse(text) == NearMiss(meant)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("new project x --stak rust", "Did you mean --stack?"),
        ("new project x --frobnicate", "It takes --stack, --git, --submodules, --path, --adopt, --lead."),
        ("new project x --stack", "--stack needs a value"),
        ("new project", "needs a new name"),
        ("switch", "needs a project"),
        ("delete foo", "There is no project foo. Type `projects` to see them all, or `prompt delete foo`"),
        ("Delete Foo --purge", "There is no project foo."),
        ("switch nowhere", "There is no project nowhere."),
        ("/frobnicate", "Type `help`"),
        ("/exit", "`reset` begins a new dialogue"),
        ("/login", "huskies secrets set"),
        ("/status nothing", "Type `status [project]`"),
    ],
)
def test_wrong_for_certain(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told.replace("[", r"\[").replace("?", r"\?").replace(".", r"\.")):
        parse(text)


def test_words_for_the_agent() -> None:
    assert parse("prompt stop\nnow") == Verbatim("stop\nnow")
    assert parse("/prompt status") == Verbatim("status")


def test_every_command_has_a_help_page_and_one_usage() -> None:
    words = [command.usage.split(" [")[0].split(" <")[0] for command in COMMANDS]
    assert len(set(words)) == len(words)
    for command in COMMANDS:
        assert command.__doc__ or type(command).__doc__
        assert command.summary
        assert f"`{command.usage}`" in page()


def test_parsing_is_fast_enough_for_every_message() -> None:
    """A prompt is read against every command; a long one must not cost more than a short one."""
    assert parse("restart " * 20_000) is None


def test_what_the_agent_knows_after_a_slash_goes_to_it() -> None:
    for text in ("/review", "/review the last commit", "/init"):
        assert PARSER.parse(text, PROJECTS, {"review", "init", "clear", "status"}) is None
    assert PARSER.parse("/review", PROJECTS, None) is None, "nobody knows"
    assert PARSER.parse("/statsu", PROJECTS, None) == NearMiss("status")
    for text in ("/clear", "/status"):  # ours
        assert isinstance(PARSER.parse(text, PROJECTS, {"clear", "status"}), Parsed)


def test_every_way_to_say_stop_has_a_word_of_those_that_are_looked_for() -> None:
    assert [said for said in wording.STOP if not any(word in said for word in wording.STOPS)] == []
