"""Logging: one line per event, as text or as JSON, and never a secret."""

from __future__ import annotations

import json
import logging

from pydantic import SecretStr

from gateway.settings import Section, Settings


class Redactor(logging.Filter):
    """Blots out the configured secrets, wherever a library may have put them, tracebacks included."""

    def __init__(self, secrets: list[str]) -> None:
        super().__init__()
        self._secrets = [secret for secret in secrets if len(secret) >= 4]

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; always lets it pass."""
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        text = record.getMessage()
        if any(secret in text for secret in self._secrets):
            record.msg, record.args = self._blot(text), None
        if record.exc_text:
            record.exc_text = self._blot(record.exc_text)
        return True

    def _blot(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


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
        return json.dumps(entry, ensure_ascii=False)


def configure(settings: Settings) -> None:
    """Set up the root logger, on stderr."""
    handler = logging.StreamHandler()
    if settings.gateway.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(Redactor(secrets_of(settings)))
    logging.basicConfig(level=settings.gateway.log_level.upper(), handlers=[handler], force=True)
    for chatty in ("asyncio", "aiohttp", "nio", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def secrets_of(settings: Settings) -> list[str]:
    """Every secret of the configuration, in the clear."""
    found: list[str] = []

    def walk(section: Section | Settings) -> None:
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, SecretStr):
                found.append(value.get_secret_value())
            elif isinstance(value, Section):
                walk(value)

    walk(settings)
    return [secret for secret in found if secret]
