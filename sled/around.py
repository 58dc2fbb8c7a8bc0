"""What happens around a run, so that its agent need not care: files in and out, snapshots, news about the workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from sled.files import Files
from sled.protocol import Body, Note, Run
from sled.snapshots import Snapshots

#: Seconds that a prompt waits for news about the workspace; later news is told with the next prompt.
NEWS_WITHIN_S = 0.15
RESTARTED = (
    "The project was restarted since your last turn: processes that you left running are gone. "
    "Your notes are in ~/notes."
)


class Around:
    """The surroundings of the runs of one project."""

    def __init__(self, files: Files, snapshots: Snapshots) -> None:
        self._files = files
        self._snapshots = snapshots
        #: News that came too late, by session.
        self._late: dict[str, str] = {}
        self._met: set[str] = set()

    def begin(self, run: Run) -> asyncio.Task[str]:
        """Begin to take the snapshot that the turn starts from; once this is done, the agent may change files."""
        return self._snapshots.begin(run)

    async def complete(self, run: Run, before: asyncio.Task[str]) -> Run:
        """The run as its agent gets it: with its files in place and named, and with what others changed."""
        waiting = asyncio.create_task(asyncio.wait({before}, timeout=NEWS_WITHIN_S))
        try:
            prompt = run.prompt
            if run.files:
                prompt = "\n\n".join(filter(None, (prompt, await self._files.fetch(run.files))))
            await waiting
        finally:
            waiting.cancel()
        news = [run.news, self._restarted(run), self._late.pop(run.session, "")]
        if before.done():
            news.append(before.result())
        else:
            before.add_done_callback(lambda late: self._keep_for_later(run.session, late))
        return replace(run, prompt=prompt, files=[], news="\n".join(filter(None, news)))

    async def finish(self, run: Run, record: Callable[[Body], None], hurry: asyncio.Event) -> None:
        """After the agent is done: the snapshot of what it left, then its files; `hurry` ends the wait for these."""
        await self.left(run)
        if hurry.is_set():
            return
        sending = asyncio.create_task(self._files.send(run.run, record))
        hurried = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait({sending, hurried}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                record(Note(text="Not all files could be sent; what is left in .huskies/outbox will be sent next time"))
        finally:
            hurried.cancel()
            sending.cancel()
            await asyncio.wait({sending})

    async def left(self, run: Run) -> None:
        """Take the snapshot of what a run left, unless that is done."""
        await self._snapshots.after(run.run)

    async def close(self) -> None:
        """Let go of everything."""
        await self._snapshots.close()

    def _restarted(self, run: Run) -> str:
        """News for a continued dialogue that this sled has not met yet: its last turn was under another sled."""
        session = run.session.rpartition("-")[0] or run.session  # without the number of its resets
        if session in self._met:
            return ""
        self._met.add(session)
        return RESTARTED if run.resume else ""

    def _keep_for_later(self, session: str, news: asyncio.Task[str]) -> None:
        if not news.cancelled() and not news.exception() and news.result():
            self._late[session] = "\n".join(filter(None, (self._late.get(session), news.result())))
