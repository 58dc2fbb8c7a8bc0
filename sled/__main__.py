"""The sled process. Its whole configuration is in the environment, set by the engine:

HUSKIES_WIRE        path of the gateway's socket
HUSKIES_TOKEN       the project's token; it opens this project's wire and nothing else
HUSKIES_WORKSPACE   the project's source
HOME                the project's home
HUSKIES_SKILLS      the folder of the operator's skills, where there are any; see `sled.agents.chosen`
HUSKIES_MODEL_AUTH  "api_key" or "oauth": the form in which Claude presents the token to the relay
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sled import agents, door, git_way
from sled.agents.chosen import RELAY, SKILLS
from sled.around import Around
from sled.children import Children
from sled.clone import Relayed
from sled.door import Door
from sled.files import Files
from sled.jobs import JobFailed, Jobs
from sled.journal import Journal
from sled.link import Link, Refused
from sled.processes import MARK, Reaper, become_subreaper
from sled.protocol import (
    DOOR,
    WARM,
    Ack,
    Answer,
    Call,
    Cool,
    Decision,
    Forget,
    FromGateway,
    Run,
    Said,
    Steer,
    Stop,
    Told,
    Warm,
    Welcome,
)
from sled.relay import Relay
from sled.snapshots import Snapshots
from sled.supervisor import Supervisor

log = logging.getLogger("sled")

#: Exit codes that mean: there is nothing to do here, do not start another.
EXIT_LOCKED = 75
EXIT_REFUSED = 77


@dataclass(frozen=True)
class Config:
    """See the module."""

    wire: Path
    token: str
    workspace: Path
    home: Path
    model_auth: str

    @classmethod
    def from_environment(cls) -> Config:
        """Read it from the environment. Raises KeyError for a missing variable."""
        return cls(
            wire=Path(os.environ["HUSKIES_WIRE"]),
            token=os.environ["HUSKIES_TOKEN"],
            workspace=Path(os.environ["HUSKIES_WORKSPACE"]),
            home=Path(os.environ["HOME"]),
            model_auth=os.environ.get("HUSKIES_MODEL_AUTH", "api_key"),
        )


def runner_environment(config: Config, relay_url: str) -> dict[str, str]:
    """What an agent sees: the sled's environment without its settings, Claude pointed at the relay, and the door."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUSKIES_")}
    temporary = config.home / ".huskies" / "tmp"
    token_name = "CLAUDE_CODE_OAUTH_TOKEN" if config.model_auth == "oauth" else "ANTHROPIC_AUTH_TOKEN"
    # The relay is on this machine's loopback, whatever proxy the project uses for everything else.
    direct = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), "127.0.0.1,localhost")))
    skills = {SKILLS: os.environ[SKILLS]} if SKILLS in os.environ else {}
    return {
        **inherited,
        **skills,
        "PATH": ":".join([*door.more_path(config.home), inherited.get("PATH", os.defpath)]),
        door.VARIABLE: str(door.socket_in(config.home)),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "TMPDIR": str(temporary),
        "CLAUDE_CODE_TMPDIR": str(temporary),
        "CLAUDE_CONFIG_DIR": str(config.home / ".claude"),
        RELAY: relay_url,
        token_name: config.token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
    }


class Sled:
    """The parts of one sled, wired."""

    def __init__(self, config: Config, relay_url: str) -> None:
        state = config.home / ".huskies"
        self._journal = Journal(state / "journal")
        self._link = Link(
            config.wire,
            config.token,
            self._journal,
            agents.available(),
            self._take,
            features=[WARM],
            welcomed=self._welcomed,
            unanswered=lambda: self._door.waiting(),  # noqa: PLW0108 - made below
        )
        self._door = Door(config.home, config.workspace, self._link.answer, self._run_of)
        self._config = config
        self._relay_url = relay_url
        environment = runner_environment(config, relay_url)
        # Marked like a runner, so that the next sled finds what this one may leave behind.
        marked = {**environment, MARK: self._journal.id}
        self._children = children = Children()
        snapshots = Snapshots(state, config.workspace, marked, children.spawn)
        around = Around(Files(config.wire, config.token, config.workspace), snapshots)
        self._supervisor = Supervisor(
            self._journal,
            config.workspace,
            environment,
            publish=self._link.publish,
            children=children,
            around=around,
        )
        relayed = Relayed(relay_url, config.token)
        self._jobs = Jobs(self._supervisor, config.workspace, marked, relayed, snapshots)
        #: The hosts that git reaches through the relay; None until the gateway has named them.
        self._git_hosts: list[str] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled; then end every run."""
        await self._supervisor.recover()
        try:
            await self._door.open()
            await self._link.run()
        finally:
            await self._door.close()
            for task in self._tasks:
                task.cancel()
            await self._supervisor.close()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._children.close()

    def _run_of(self, pid: int) -> str:
        return self._supervisor.run_of(pid)

    async def _welcomed(self, welcome: Welcome) -> None:
        """Send git through the relay, for the hosts that the gateway has a token for; have a runner stand by."""
        self._supervisor.stand_by(welcome.agent)
        self._door.serves = DOOR in welcome.features
        if welcome.git_hosts == self._git_hosts:
            return
        if not welcome.git_hosts and not git_way.file_of(self._config.home).exists():
            return
        try:
            file = git_way.write(self._config.home, self._relay_url, self._config.token, welcome.git_hosts)
            await self._jobs.include(file)
            self._git_hosts = welcome.git_hosts
        except (JobFailed, OSError) as error:
            log.warning("git goes to its hosts without the gateway: %s", error)

    async def _take(self, frame: FromGateway) -> None:
        match frame:
            case Warm():
                await self._supervisor.warm(frame)
            case Cool():
                await self._supervisor.cool(frame)
            case Run():
                await self._supervisor.start(frame)
            case Steer():
                await self._supervisor.steer(frame)
            case Decision():
                await self._supervisor.decide(frame)
            case Forget():
                await self._supervisor.forget(frame)
            case Told():
                self._door.told(frame)
            case Ack():
                self._journal.forget(frame.run)
            case Stop():
                # Seconds long; the frames behind it must not wait.
                self._in_background(self._supervisor.stop(frame))
            case Call():
                self._in_background(self._call(frame))
            case _:
                log.warning("unexpected frame %s", type(frame).__name__)

    async def _call(self, call: Call) -> None:
        def say(text: str) -> None:
            self._link.answer(Said(call=call.call, text=text))

        try:
            answer = Answer(call=call.call, ok=True, text=await self._jobs.do(call, say))
        except (JobFailed, OSError) as error:
            answer = Answer(call=call.call, ok=False, text=str(error))
        self._link.answer(answer)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def take_lock(home: Path) -> int | None:
    """Ensure one sled per home; returns the open, locked file, or None when another sled holds it.

    A POSIX lock: the kernel tells the process engine who holds it, so there is no pid on disk that could be stale.
    """
    (home / ".huskies" / "tmp").mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / ".huskies" / "sled.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


async def main(config: Config) -> int:
    """Run the sled until SIGTERM; the exit code."""
    become_subreaper()
    relay = Relay(config.wire, config.token)
    background = asyncio.create_task(Reaper().run())
    work = asyncio.create_task(Sled(config, await relay.start()).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        log.info("ending, as requested")
    except Refused:
        log.error("the gateway does not know this project; ending")
        return EXIT_REFUSED
    finally:
        background.cancel()
        await relay.close()
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s sled %(levelname)s %(message)s")
    settings = Config.from_environment()
    if take_lock(settings.home) is None:
        log.error("another sled runs on %s", settings.home)
        sys.exit(EXIT_LOCKED)
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main(settings)))
