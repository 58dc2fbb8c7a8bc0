"""The scripted agent: answers with what it was told, for demos, tests and benchmarks.

It answers `You said:` and the batch, one line per message. Lines that begin with `@@` are orders:

    @@sleep SECONDS        wait, as a model would
    @@say TEXT             put TEXT into the answer
    @@stream N             stream N chunks
    @@write PATH TEXT      write a file in the workspace
    @@run SHELL            run a command in the workspace; its output goes into the answer
    @@permission TOOL ARGS ask to use a tool, unless the mode allows it
    @@ask QUESTION | A | B ask a person; several may be chosen if the question ends in [several]
    @@send PATH            send people a file of the workspace
    @@huskies COMMAND      ask the gateway to carry out a command; what came of it goes into the answer
    @@context              put the context and the news that came with the prompt into the answer
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
import tempfile
from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from sled.agents import allows
from sled.door import call
from sled.outbox import NotSent, put
from sled.protocol import Finished, Option, Query, Question, Started, TextDelta, Tool, ToolDone, Warm
from sled.turn import Turn, chosen, told

#: In a shared room the batch names its senders: `Ana: @@say hello`.
_ORDER = re.compile(r"^(?:[^:\n@]{1,80}: )?@@(\w+)[ \t]*(.*)$")

_SEVERAL = "[several]"
_MAX_RULE = 100


def create(workspace: Path) -> Scripted:
    """A scripted agent for `workspace`."""
    return Scripted(workspace)


def _words(message: str) -> str:
    """What is said in a message: its orders left out; a quotation keeps its lines."""
    lines = [line for line in message.splitlines() if not _ORDER.match(line)]
    return ("\n" if lines and lines[0].startswith(">") else " ").join(lines)


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

    @property
    def pids(self) -> Collection[int]:
        return ()

    async def prepare(self, warm: Warm) -> None:
        """It needs nothing."""

    async def run(self, turn: Turn) -> Finished:
        """Echo the batch and carry out its orders."""
        session = turn.run.resume or f"scripted-{secrets.token_hex(6)}"
        self._answer, self._cost, self._steered = [], 0.0, asyncio.Queue()
        self._work = asyncio.create_task(self._play(turn, session))
        end = Finished(ending="answered", agent_session=session)
        try:
            await self._work
        except asyncio.CancelledError:
            if not self._work.cancelled():
                raise
            end = replace(end, ending="interrupted", reason="stopped")
        except (_Failed, NotSent, ValueError, OSError) as failure:
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

    async def _play(self, turn: Turn, session: str) -> None:
        await turn.emit(Started(agent_session=session))
        await self._lines(turn.run.prompt, turn)
        while not self._steered.empty():
            await self._lines(self._steered.get_nowait(), turn)

    async def _lines(self, text: str, turn: Turn) -> None:
        said = [_words(message) for message in text.split("\n\n")]
        if any(said):
            await self._say("You said:", turn)
            for line in filter(None, said):
                # Behind a quotation an empty line, or what follows would be a part of it.
                await self._say(f"{line}\n" if line.startswith(">") else line, turn)
        for line in text.splitlines():
            if match := _ORDER.match(line):
                await self._order(match[1], match[2].strip(), turn)

    async def _say(self, line: str, turn: Turn) -> None:
        self._answer.append(line)
        await turn.emit(TextDelta(delta=line + "\n"))

    async def _order(self, order: str, rest: str, turn: Turn) -> None:
        match order:
            case "sleep":
                await asyncio.sleep(float(rest))
            case "say":
                await self._say(rest, turn)
            case "stream":
                for number in range(int(rest)):
                    await self._say(f"chunk {number + 1}", turn)
                    await asyncio.sleep(0)
            case "write":
                await turn.ready()
                path, _, content = rest.partition(" ")
                (self._workspace / path).write_text(content + "\n")
            case "run":
                await turn.ready()
                await self._shell(rest, turn)
            case "cost":
                self._cost += float(rest)
            case "fail":
                raise _Failed(rest or "told to fail")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                await self._other_order(order, rest, turn)

    async def _other_order(self, order: str, rest: str, turn: Turn) -> None:
        match order:
            case "permission":
                await self._permission(rest, turn)
            case "ask":
                await self._ask(rest, turn)
            case "huskies":
                outcome, told = await call(rest)
                await self._say(f"{outcome}: {told}", turn)
            case "send":
                await asyncio.to_thread(put, self._workspace, rest, "")
            case "context":
                await self._say("\n".join(filter(None, (turn.run.context, turn.run.news))), turn)
            case _:
                await self._say(f"I don't know the order @@{order}", turn)

    async def _permission(self, wanted: str, turn: Turn) -> None:
        outcome = "allowed"
        if not allows(turn.run.permissions, turn.run.isolated):
            tool, _, arguments = wanted.partition(" ")
            given = told({"arguments": arguments})
            identity, rule = secrets.token_hex(8), wanted[:_MAX_RULE]
            question = Question(id=identity, kind="permission", tool=tool[:200], arguments=given, rule=rule)
            decision = await turn.ask(question)
            outcome = "allowed" if decision.allow else f"denied: {decision.text}"
        await self._say(f"{wanted}: {outcome}", turn)

    async def _ask(self, rest: str, turn: Turn) -> None:
        question, *labels = (part.strip() for part in rest.split("|"))
        several = question.endswith(_SEVERAL)
        question = question.removesuffix(_SEVERAL).strip()
        query = Query(text=question, options=[Option(label=label) for label in labels], several=several)
        decision = await turn.ask(Question(id=secrets.token_hex(8), kind="query", queries=[query]))
        answer = chosen([query], decision).get(question, "[expired]")
        await self._say(f"{question} -> {answer}", turn)

    async def _shell(self, command: str, turn: Turn) -> None:
        tool = secrets.token_hex(4)
        await turn.emit(Tool(id=tool, name="Bash", detail=command[:200]))
        # A file, not a pipe: a daemon in its own session may hold a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            process = await asyncio.create_subprocess_shell(
                command,
                cwd=self._workspace,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                await process.wait()
            except asyncio.CancelledError:
                # Do not wait; the sled ends whatever is left.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            output.seek(0)
            text = output.read().decode(errors="replace").strip()
        await turn.emit(ToolDone(id=tool, failed=process.returncode != 0))
        if text:
            await self._say(text, turn)
