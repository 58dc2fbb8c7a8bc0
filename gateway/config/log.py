"""Logging: one line per event, as text or as JSON, and never a secret.

On stderr; but where the console has the terminal, lines would run across the one being typed. There they go to
`<state_dir>/.logs/gateway.log`; the screen shows warnings, and that the gateway is ready, above that line.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pydantic import BaseModel, SecretStr

from gateway.config.sections import passwords_in
from gateway.config.settings import Settings

_FILE_BYTES = 8 * 2**20
#: Events of one kind that are logged in a minute, kinds that are told apart, and characters of one line.
_A_MINUTE, _MINUTE_S, _KINDS, _LINE = 60, 60.0, 2000, 8000
#: What to log with (`extra=`) so that a person at the console sees it.
SHOWN = {"shown": True}


class Throttle(logging.Filter):
    """Lets so many events of one kind through in a minute, and says how many more there were.

    A kind is a place in the code: what strangers and containers send again and again must not fill a disk. What ends
    the gateway is never left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        #: By kind: when its minute began, and how many came in it.
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is let through; the first of a new minute tells what was left out before."""
        if record.levelno >= logging.CRITICAL or record.levelno <= logging.DEBUG:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        if kind not in self._seen and len(self._seen) >= _KINDS:
            self._seen.clear()
        began, count = self._seen.get(kind, (now, 0))
        if now - began >= _MINUTE_S:
            if count > _A_MINUTE:
                record.msg, record.args = (
                    f"{record.getMessage()} ({count - _A_MINUTE} more like it were left out)",
                    None,
                )
            began, count = now, 0
        self._seen[kind] = (began, count + 1)
        return count < _A_MINUTE


class Redactor(logging.Filter):
    """Blots out the configured secrets, wherever a library may have put them, tracebacks included."""

    def __init__(self, secrets: list[str]) -> None:
        super().__init__()
        self._secrets = [secret for secret in secrets if len(secret) >= 4]

    def hide(self, secrets: Iterable[str]) -> None:
        """Blot out these, too."""
        self._secrets += [secret for secret in secrets if len(secret) >= 4 and secret not in self._secrets]

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; always lets it pass."""
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        text = record.getMessage()
        if any(secret in text for secret in self._secrets):
            text = self._blot(text)
            record.msg, record.args = text, None
        if len(text) > _LINE:  # only now: half a secret would not be known as one
            record.msg, record.args = f"{text[:_LINE]}... ({len(text) - _LINE} more characters)", None
        if record.exc_text:
            record.exc_text = self._blot(record.exc_text)
        return True

    def _blot(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


class TextFormatter(logging.Formatter):
    """A line per event. What a message quotes can neither begin a line of its own nor give orders to a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.replace("\n", "\\n")
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return _visible(super().format(record))


class JsonFormatter(logging.Formatter):
    """An object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            entry["exception"] = record.exc_text
        return json.dumps(entry)


class _Screen(logging.Handler):
    """The part of the log that a person at the console should see, in short."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and not getattr(record, "shown", False):
            return
        text = _visible(record.getMessage())
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if record.exc_text:
            text += f" (more in {self._file})"
        # As it is now: the console replaces it so that what is written goes above the line being typed.
        sys.stderr.write(text + "\n")


class _File(RotatingFileHandler):
    """Opened with the first event: by then the gateway has made sure that the state directory is its own."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return super()._open()


def configure(settings: Settings, *, terminal: bool = False) -> None:
    """Set up the root logger. `terminal`: the console uses the terminal that stderr is."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if terminal:
        file = settings.gateway.state_dir / ".logs" / "gateway.log"
        handlers = [_File(file, maxBytes=_FILE_BYTES, backupCount=1, encoding="utf-8", delay=True), _Screen(file)]
    if settings.gateway.log_format == "json":
        handlers[0].setFormatter(JsonFormatter())
    else:
        handlers[0].setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    throttle = Throttle()
    handlers[0].addFilter(throttle)
    for handler in handlers:
        handler.addFilter(Redactor(secrets_of(settings)))
    logging.basicConfig(level=settings.gateway.log_level.upper(), handlers=handlers, force=True)
    # An event that cannot be written (a full disk, a closed pipe) is lost; complaining about it on stderr helps no one.
    logging.raiseExceptions = False
    for chatty in ("asyncio", "aiohttp", "nio", "alembic", "asyncssh", "docker", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def blot_out(secrets: Iterable[str]) -> None:
    """Keep more secrets out of the log, from now on; those that it knows stay known."""
    for handler in logging.getLogger().handlers:
        for redactor in handler.filters:
            if isinstance(redactor, Redactor):
                redactor.hide(secrets)


def secrets_of(settings: Settings) -> list[str]:
    """Every secret of the configuration, in the clear."""
    found: list[str] = []

    def walk(section: BaseModel) -> None:
        for name in type(section).model_fields:
            take(getattr(section, name))

    def take(value: object) -> None:
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, BaseModel):
            walk(value)
        elif isinstance(value, dict):
            for inner in value.values():
                take(inner)

    walk(settings)
    found += [password for address in settings.build.build_args.values() for password in passwords_in(address)]
    return [secret for secret in found if secret]


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
