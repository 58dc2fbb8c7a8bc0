"""A person at a terminal in which `huskies run` runs: keys in, a screen to look at."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import psutil

from gateway.testing import patience
from tests.support.huskies import Huskies, clean_environment
from tests.support.processes import die_with_parent
from tests.support.screen import Screen

UP, BACKSPACE, ENTER, CTRL_C, CTRL_D, LEFT = "\x1b[A", "\x7f", "\r", "\x03", "\x04", "\x1b[D"


#: Looks at which a program has to sleep until it is taken to wait for its person.
_STILL = 20


class Terminal:
    """Use `at_terminal`."""

    def __init__(self, keys: int, tty: int, process: subprocess.Popen[bytes], columns: int) -> None:
        self._keys, self._tty = keys, tty
        self.process = process
        self.screen = Screen(columns, answer=lambda data: os.write(keys, data))
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keys, keys.encode())

    async def shows(self, holds: Callable[[Screen], object], within_s: float = 20) -> None:
        """Look until the screen is as asked."""
        try:
            async with asyncio.timeout(within_s * patience()):
                while not holds(self.screen):
                    await self._look()
        except TimeoutError:
            raise AssertionError("the screen:\n" + "\n".join(self.screen.all)) from None

    async def waits(self, within_s: float = 15) -> None:
        """Look until the program waits: a signal that comes between a prompt and the read behind it would be lost.

        It waits when it sleeps at one look after the other, and has not been awake in between.
        """
        program, before, looks = psutil.Process(self.process.pid), -1, 0
        async with asyncio.timeout(within_s * patience()):
            while looks < _STILL:
                await self._look()
                waits = program.num_ctx_switches().voluntary
                still = program.status() == psutil.STATUS_SLEEPING and waits == before
                before, looks = waits, looks + 1 if still else 0

    async def ends(self, within_s: float = 15) -> int:
        """Look until the program has ended; its exit code."""
        async with asyncio.timeout(within_s * patience()):
            while (code := self.process.poll()) is None:
                await self._look()
        await self._look()
        return code

    def modes(self) -> list[object]:
        """How the terminal is set: echo, line mode and the like."""
        return termios.tcgetattr(self._tty)[:4]

    async def _look(self) -> None:
        try:
            data = os.read(self._keys, 65536)
        except BlockingIOError:
            await asyncio.sleep(0.01)
            return
        self.screen.feed(self._decoder.decode(data))


@contextlib.contextmanager
def at_terminal(
    huskies: Huskies, *arguments: str, term: str = "xterm-256color", columns: int = 100, **environment: str
) -> Iterator[Terminal]:
    """Run `huskies ARGUMENTS` in a terminal of its own, of the kind `term`; killed at the end."""
    usual = {"HOME": str(huskies.folder), "HUSKIES_CONFIG": "config.toml", "TERM": term}
    keys, tty = os.openpty()
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    os.set_blocking(keys, False)

    def in_terminal() -> None:
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs in the background of a shell ignores it
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        env={**clean_environment(), **usual, **environment},
        cwd=huskies.folder,
        stdin=tty,
        stdout=tty,
        stderr=tty,
        start_new_session=True,
        preexec_fn=in_terminal,
    )
    try:
        yield Terminal(keys, tty, process, columns)
    finally:
        process.kill()
        process.wait()
        os.close(keys)
        os.close(tty)
