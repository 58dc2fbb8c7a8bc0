"""The scripted agent: answers with what it was told, for demos, tests and benchmarks.

It answers `You said:` and the batch, one line per message. Lines that begin with `@@` are orders:

    @@sleep SECONDS        wait, as a model would
    @@say TEXT             put TEXT into the answer
    @@stream N             stream N chunks
    @@write PATH TEXT      write a file in the workspace
    @@run SHELL            run a command in the workspace; its output goes into the answer
    @@permission TOOL ARGS ask to use a tool
    @@ask QUESTION | A | B ask a person
    @@cost USD             claim a cost
    @@fail TEXT            end the run as failed
    @@die                  kill the agent's own process
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
from pathlib import Path

from msgspec.structs import replace

from sled.agents import Emit
from sled.protocol import Finished, Run, Started, TextDelta, Tool, ToolDone

#: In a shared room the batch names its senders: `Ana: @@say hello`.
_ORDER = re.compile(r"^(?:[^:\n@]{1,80}: )?@@(\w+)[ \t]*(.*)$")


def create(workspace: Path) -> Scripted:
    """A scripted agent for `workspace`."""
    return Scripted(workspace)


class _Failed(Exception):
    """An order asked for a failure."""


class Scripted:
    """See the module."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._work: asyncio.Task[None] | None = None
        self._steered: asyncio.Queue[str] = asyncio.Queue()
        self._answer: list[str] = []
        self._cost = 0.0

    async def run(self, run: Run, emit: Emit) -> Finished:
        """Echo the batch and carry out its orders."""
        session = run.resume or f"scripted-{secrets.token_hex(6)}"
        self._answer, self._cost, self._steered = [], 0.0, asyncio.Queue()
        self._work = asyncio.create_task(self._play(run, session, emit))
        end = Finished(ending="answered", agent_session=session)
        try:
            await self._work
        except asyncio.CancelledError:
            if not self._work.cancelled():
                raise
            end = replace(end, ending="interrupted", reason="stopped")
        except (_Failed, ValueError, OSError) as failure:
            end = replace(end, ending="failed", error=str(failure))
        finally:
            self._work = None
        return replace(end, text="\n".join(self._answer), cost_usd=self._cost)

    async def interrupt(self) -> None:
        if self._work is not None:
            self._work.cancel()

    async def steer(self, text: str) -> bool:
        if self._work is None:
            return False
        self._steered.put_nowait(text)
        return True

    async def close(self) -> None:
        await self.interrupt()

    async def _play(self, run: Run, session: str, emit: Emit) -> None:
        await emit(Started(agent_session=session))
        await self._lines(run.prompt, run, emit)
        while not self._steered.empty():
            await self._lines(self._steered.get_nowait(), run, emit)

    async def _lines(self, text: str, run: Run, emit: Emit) -> None:
        said = [
            " ".join(line for line in message.splitlines() if not _ORDER.match(line)) for message in text.split("\n\n")
        ]
        if any(said):
            await self._say("You said:", emit)
            for line in filter(None, said):
                await self._say(line, emit)
        for line in text.splitlines():
            if match := _ORDER.match(line):
                await self._order(match[1], match[2].strip(), run, emit)

    async def _say(self, line: str, emit: Emit) -> None:
        self._answer.append(line)
        await emit(TextDelta(delta=line + "\n"))

    async def _order(self, order: str, rest: str, run: Run, emit: Emit) -> None:
        match order:
            case "sleep":
                await asyncio.sleep(float(rest))
            case "say":
                await self._say(rest, emit)
            case "stream":
                for number in range(int(rest)):
                    await self._say(f"chunk {number + 1}", emit)
                    await asyncio.sleep(0)
            case "write":
                path, _, content = rest.partition(" ")
                (self._workspace / path).write_text(content + "\n")
            case "run":
                await self._shell(rest, emit)
            case "permission":
                tool, _, arguments = rest.partition(" ")
                allowed = run.permissions == "allow" or (run.permissions == "auto" and run.isolated)
                told = "allowed" if allowed else "denied; `permissions allow` would allow it"
                await self._say(f"{tool} {arguments}: {told}".replace(" :", ":"), emit)
            case "ask":
                await self._say("Questions cannot be asked yet: " + rest.partition("|")[0].strip(), emit)
            case "cost":
                self._cost += float(rest)
            case "fail":
                raise _Failed(rest or "told to fail")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                await self._say(f"I do not know the order @@{order}", emit)

    async def _shell(self, command: str, emit: Emit) -> None:
        tool = secrets.token_hex(4)
        await emit(Tool(id=tool, name="Bash", detail=command[:200]))
        process = await asyncio.create_subprocess_shell(
            command,
            cwd=self._workspace,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            # Not waited for: a daemon of its own session may hold the pipe. Whatever is left, the sled ends.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        await emit(ToolDone(id=tool, failed=process.returncode != 0))
        if text := output.decode(errors="replace").strip():
            await self._say(text, emit)
