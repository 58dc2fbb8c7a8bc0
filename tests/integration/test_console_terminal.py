"""The gateway in a real terminal: what a person types there, and what they see."""

from __future__ import annotations

import getpass
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.huskies import Huskies
from tests.support.screen import Screen
from tests.support.terminal import BACKSPACE, CTRL_C, CTRL_D, ENTER, LEFT, UP, Terminal, at_terminal

pytestmark = pytest.mark.slow

PROMPT = f"{getpass.getuser()}>"


@pytest.fixture
def huskies(tmp_path: Path) -> Iterator[Huskies]:
    with Huskies(tmp_path) as made:
        yield made


@pytest.fixture
def terminal(huskies: Huskies) -> Iterator[Terminal]:
    with at_terminal(huskies, "run") as made:
        yield made


def prompt_with(text: str = "") -> Callable[[Screen], bool]:
    """The line being typed reads this, and nothing else has run into it."""
    return lambda screen: screen.line == f"{PROMPT} {text}".rstrip()


def has_line(text: str) -> Callable[[Screen], bool]:
    """A whole line of the screen, or of what scrolled off, reads this."""
    return lambda screen: text in screen.all


async def make_demo(terminal: Terminal) -> None:
    await terminal.shows(prompt_with())
    terminal.type("new project demo" + ENTER)
    await terminal.shows(has_line("demo is ready."))
    await terminal.shows(prompt_with())


async def test_a_person_makes_a_project_and_gets_an_answer(terminal: Terminal) -> None:
    await terminal.shows(prompt_with())
    await terminal.shows(lambda screen: any("huskies is ready" in row for row in screen.all))
    assert any("The scripted agent answers" in row for row in terminal.screen.all)
    await make_demo(terminal)
    terminal.type("hello there" + ENTER)
    await terminal.shows(has_line("hello there"))
    rows = terminal.screen.all
    assert rows[rows.index("hello there") - 1] == "You said:"
    await terminal.shows(prompt_with())
    before = terminal.screen.all
    terminal.type(CTRL_D)
    assert await terminal.ends() == 0
    assert terminal.screen.all[: len(before) - 1] == before[:-1], "its end does not wipe out what was said"


async def test_progress_is_shown_below_the_line_being_typed(terminal: Terminal, huskies: Huskies) -> None:
    await make_demo(terminal)
    terminal.type("@@run until [ -e go ]; do sleep 0.05; done" + ENTER)

    def below(screen: Screen) -> bool:
        at = next((n for n, row in enumerate(screen.rows) if row == f"{PROMPT} still typ"), None)
        return at is not None and any("⏳ Working" in row for row in screen.rows[at + 1 :])

    terminal.type("still typ")
    await terminal.shows(below)
    (huskies.projects / "demo" / "go").touch()
    await terminal.shows(has_line("(The agent finished without saying anything.)"))
    assert not any("⏳" in row for row in terminal.screen.history), "progress leaves nothing behind"
    await terminal.shows(lambda screen: not any("⏳" in row for row in screen.rows))
    await terminal.shows(prompt_with("still typ"))
    terminal.type("ing" + ENTER)
    await terminal.shows(has_line("still typing"))


async def test_the_line_can_be_edited_and_called_back(terminal: Terminal, huskies: Huskies) -> None:
    await make_demo(terminal)
    terminal.type("hellp" + BACKSPACE + "o wrld" + LEFT * 3 + "o")
    await terminal.shows(prompt_with("hello world"))
    terminal.type(ENTER)
    await terminal.shows(has_line("hello world"))
    await terminal.shows(prompt_with())
    terminal.type(UP)
    await terminal.shows(prompt_with("hello world"))
    terminal.type(UP)
    await terminal.shows(prompt_with("new project demo"))
    terminal.type("\x15" + CTRL_D)
    assert await terminal.ends() == 0
    assert (huskies.state / ".gateway" / "history").stat().st_mode & 0o077 == 0
    with at_terminal(huskies, "run") as later:
        await later.shows(prompt_with())
        later.type(UP)
        await later.shows(prompt_with("hello world"))


async def test_what_an_agent_says_gives_no_orders(terminal: Terminal, huskies: Huskies) -> None:
    await make_demo(terminal)
    (huskies.projects / "demo" / "hostile").write_text("\x1b[2J\x1b]0;owned\x07\x9b2Jwiped\n<b>\u202ebidi")
    terminal.type("@@run cat hostile" + ENTER)
    await terminal.shows(has_line("\ufffd[2J\ufffd]0;owned\ufffd\ufffd2Jwiped"))
    assert "<b>\ufffdbidi" in terminal.screen.all
    assert "demo is ready." in terminal.screen.all, "nothing was wiped"


async def test_an_answer_is_formatted_above_the_line_being_typed(terminal: Terminal, huskies: Huskies) -> None:
    await make_demo(terminal)
    answer = "**Done**, see `a.py`:\n\n| n | what |\n|--:|---|\n| 10 | *x* |\n\n- [docs](https://example.org/d)\n"
    (huskies.projects / "demo" / "answer").write_text(answer)
    terminal.type("@@run until [ -e go ]; do sleep 0.05; done; cat answer" + ENTER)
    await terminal.shows(lambda screen: any("⏳ Working" in row for row in screen.rows))
    terminal.type("half a sen")
    await terminal.shows(prompt_with("half a sen"))
    (huskies.projects / "demo" / "go").touch()
    await terminal.shows(has_line("• docs (https://example.org/d)"))
    rows = terminal.screen.all
    at = rows.index("Done, see a.py:")
    assert rows[at : at + 6] == ["Done, see a.py:", "", " n │ what", "───┼─────", "10 │ x", ""]
    assert {"Done", "a.py"} <= {text for _, text in terminal.screen.styled}
    await terminal.shows(prompt_with("half a sen"))
    terminal.type("tence" + ENTER)
    await terminal.shows(has_line("half a sentence"))


async def test_a_terminal_without_styles_gets_what_was_said(huskies: Huskies) -> None:
    with at_terminal(huskies, "run", term="dumb") as terminal:
        await terminal.shows(lambda screen: any(row.startswith(PROMPT) for row in screen.rows))
        terminal.type("new project demo" + ENTER)
        await terminal.shows(lambda screen: any("**demo** is ready." in row for row in screen.all))


async def test_the_log_does_not_run_across_the_line_being_typed(terminal: Terminal, huskies: Huskies) -> None:
    await make_demo(terminal)
    terminal.type("half a sen")
    await terminal.shows(prompt_with("half a sen"))
    (sled,) = huskies.sleds()
    sled.kill()  # the gateway logs that it starts another one
    log = huskies.state / ".logs" / "gateway.log"
    await terminal.shows(lambda _: log.exists() and "starting the sled of demo" in log.read_text())
    assert log.stat().st_mode & 0o077 == 0
    await terminal.shows(prompt_with("half a sen"))
    assert not any("starting the sled" in row for row in terminal.screen.all)
    terminal.type("tence" + ENTER)
    await terminal.shows(has_line("half a sentence"))


async def test_a_warning_is_shown_above_the_line_being_typed(tmp_path: Path, unused_port: int) -> None:
    matrix = {"homeserver": f"http://127.0.0.1:{unused_port}", "user_id": "@bot:x", "access_token": "canary-token"}
    with Huskies(tmp_path, {"transports": {"matrix": matrix}}) as huskies, at_terminal(huskies, "run") as terminal:
        await terminal.shows(prompt_with())
        terminal.type("abc")
        await terminal.shows(lambda screen: any(row.startswith("warning: matrix: ") for row in screen.all))
        await terminal.shows(prompt_with("abc"))
        assert not any("Traceback" in row for row in terminal.screen.all)


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
async def test_however_it_ends_the_terminal_is_as_it_was(huskies: Huskies, how: str) -> None:
    with at_terminal(huskies, "run") as terminal:
        before = terminal.modes()
        await terminal.shows(prompt_with())
        await terminal.shows(lambda screen: any("huskies is ready" in row for row in screen.all))
        assert terminal.modes() != before, "the line editor has it"
        if how == "ctrl-c":
            terminal.type(CTRL_C)
        else:
            os.kill(terminal.process.pid, signal.SIGTERM)
        assert await terminal.ends() == 0
        assert terminal.modes() == before
        assert not any("Traceback" in row or "Exception" in row for row in terminal.screen.all)


async def test_what_cannot_work_is_one_line_on_the_terminal_too(huskies: Huskies) -> None:
    huskies.rewrite({"gateway": {"state_dir": "config.toml"}})
    with at_terminal(huskies, "run") as terminal:
        assert await terminal.ends() == 1
        (told,) = "".join(terminal.screen.all).split("huskies: ")[1:]
        assert told.endswith("set gateway.state_dir")
