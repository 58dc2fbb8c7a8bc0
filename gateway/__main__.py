"""The `huskies` command: reads its arguments, says errors in one line, and exits."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.errors import HuskiesError

if TYPE_CHECKING:
    from gateway.config import Settings

log = logging.getLogger(__name__)


def main() -> None:
    """Entry point of the console script."""
    arguments = make_parser().parse_args()
    try:
        code = arguments.act(arguments)
        sys.stdout.flush()
    except HuskiesError as error:
        print(f"huskies: {error}", file=sys.stderr)
        code = 1
    except BrokenPipeError:
        # Whoever read our output has gone. Python flushes it once more at its end: into nothing, without complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except KeyboardInterrupt:
        code = 130
    except Exception:
        # Through the log, which blots out secrets; a traceback of Python's own would not.
        log.exception("huskies ended because of a defect of its own")
        code = 1
    sys.exit(code)


def make_parser() -> argparse.ArgumentParser:
    """The command line. What a subcommand needs is imported when it is used."""
    parser = argparse.ArgumentParser(prog="huskies", description="Text your sandboxed coding agents.")
    parser.add_argument("--config", type=Path, help="configuration file; else $HUSKIES_CONFIG, ~/.huskies/config.toml")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # The same option after the subcommand; left out there, it keeps what was said before it.
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    run = commands.add_parser("run", parents=[config], help="start the gateway")
    run.add_argument("--pipe", action="store_true", help="one message per line of stdin; ends when all are answered")
    run.set_defaults(act=_run)

    init = commands.add_parser(
        "init", parents=[config], help="ask what the configuration needs, check each answer live, write config.toml"
    )
    init.set_defaults(act=_init)

    send = commands.add_parser(
        "send", parents=[config], help="send a message to the running gateway and print the reply"
    )
    send.add_argument("text")
    send.add_argument("--conversation", default="default", help="which conversation of the command line it belongs to")
    send.add_argument("--timeout", type=float, default=3600.0, help="seconds to wait for the reply")
    send.set_defaults(act=_ask("send"))

    projects = commands.add_parser("projects", parents=[config], help="list the projects")
    projects.add_argument("--json", action="store_true")
    projects.set_defaults(act=_ask("projects"))

    status = commands.add_parser("status", parents=[config], help="show a project")
    status.add_argument("name")
    status.add_argument("--json", action="store_true")
    status.set_defaults(act=_ask("status"))

    plan = commands.add_parser(
        "plan", parents=[config], help="show what `new project --path PATH` would do; needs no gateway and no engine"
    )
    plan.add_argument("path", type=Path)
    plan.add_argument("--stack")
    plan.add_argument("--json", action="store_true")
    plan.set_defaults(act=_ask("plan"))

    migrate = commands.add_parser(
        "migrate", parents=[config], help="copy the state from SQLite into gateway.database; the gateway must not run"
    )
    migrate.add_argument("--back", action="store_true", help="from that database back into SQLite")
    migrate.set_defaults(act=_ask("migrate"))

    ssh = commands.add_parser("ssh", parents=[config], help="open a shell in a project's container")
    ssh.add_argument("name")
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    ssh.set_defaults(act=_ask("ssh"))

    for name, told in (
        ("ssh-config", "print what to Include in ~/.ssh/config, a Host for each project"),
        ("login", "print a link that logs you in to the page, once, within five minutes"),
    ):
        commands.add_parser(name, parents=[config], help=told).set_defaults(act=_ask(name))

    doctor = commands.add_parser(
        "doctor",
        parents=[config],
        help="one line per part and per live check of each platform: ok, or what is wrong and what to type",
    )
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(act=_doctor)

    _add_secrets(
        commands.add_parser("secrets", parents=[config], help="keep the model's keys; values come from stdin"), config
    )

    audit = commands.add_parser("audit", parents=[config], help="check, or print, what was done and by whom")
    kinds = audit.add_subparsers(required=True, metavar="ACTION", dest="act_on")
    kinds.add_parser("verify", parents=[config], help="check each row; the first one that was changed is named")
    export = kinds.add_parser("export", parents=[config], help="print all rows, a JSON object a line")
    export.add_argument("--since", metavar="DATE", default="", help="leave out what is older, e.g. 2026-11-30")
    audit.set_defaults(act=_ask("audit"))

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(act=_version)
    return parser


def _add_secrets(parser: argparse.ArgumentParser, config: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="act_on")
    of = "a project's name, or `all` (also `-`): every one without its own key"
    for name, help_text in (("set", "read a value from stdin and keep it"), ("delete", "forget a value")):
        action = actions.add_parser(name, parents=[config], help=help_text)
        action.add_argument("project", metavar="PROJECT", help=of)
        action.add_argument("key", metavar="KEY", help="api_key or oauth_token")
    listing = actions.add_parser("list", parents=[config], help="show which are set, never their values")
    listing.add_argument("project", nargs="?", default="", metavar="PROJECT", help=of)
    parser.set_defaults(act=_ask("secrets"))


def _version(_: argparse.Namespace) -> int:
    print(f"huskies {__version__}")
    return 0


def _tell_of_a_pipe() -> None:
    """Tell whoever means us to read our input; a service has none, or /dev/null."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # it is closed
        return
    if stat.S_ISFIFO(mode) or stat.S_ISREG(mode):
        log.warning("What is piped in is not read. To send it as messages, type: huskies run --pipe")


def _run(arguments: argparse.Namespace) -> int:
    gc.disable()  # until the gateway is ready: nothing that is loaded goes away again
    from gateway.app.build import serve
    from gateway.config import log

    values, file = _configuration(arguments)
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not arguments.pipe
    log.configure(values, terminal=terminal and values.transports.console.enabled)
    if not (arguments.pipe or terminal):
        _tell_of_a_pipe()
    asyncio.run(serve(values, file, pipe=arguments.pipe, terminal=terminal))
    if any(thread.name.startswith("docker") for thread in threading.enumerate()):
        # Everything is closed and sent. Python would wait for the threads of a pool, and so for a frozen engine.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


def _configuration(arguments: argparse.Namespace) -> tuple[Settings, Path | None]:
    """The configuration, and the file that it is from. Raises ConfigError."""
    from gateway.config import settings

    file = settings.find_file(arguments.config)
    _name_overlooked(arguments, file)
    return settings.load(file), file


def _name_overlooked(arguments: argparse.Namespace, used: Path | None) -> None:
    from gateway.config import settings

    if arguments.config is None and (line := settings.overlooked(used, sys.argv[1:])):
        print(f"huskies: {line}", file=sys.stderr)


def _init(arguments: argparse.Namespace) -> int:
    from gateway.cli import init
    from gateway.config.settings import home_file
    from transports.terminal import inert

    home = home_file()
    _name_overlooked(arguments, home if home.is_file() else None)
    try:
        return init.run(arguments.config, lambda text: print(inert(text)))
    except (KeyboardInterrupt, EOFError):
        print("\nNothing was written.")
        return 130


def _doctor(arguments: argparse.Namespace) -> int:
    from gateway.cli import doctor
    from transports.terminal import inert

    values, _ = _configuration(arguments)
    return asyncio.run(doctor.doctor(values, arguments, lambda text: print(inert(text))))


def _ask(subcommand: str) -> Callable[[argparse.Namespace], int]:
    def act(arguments: argparse.Namespace) -> int:
        from gateway.cli import subcommands
        from transports.terminal import inert

        values, _ = _configuration(arguments)
        # What an agent said reaches a terminal here as it does in the console.
        return asyncio.run(subcommands.SUBCOMMANDS[subcommand](values, arguments, lambda text: print(inert(text))))

    return act


if __name__ == "__main__":
    main()
