"""Looking at answers: their form as the configuration does, and live as `huskies doctor` does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from gateway.chat.finding import Finding
from gateway.cli.init.asker import Asker
from gateway.cli.init.draft import Draft
from gateway.errors import ConfigError


class Checker:
    """Says what it finds where the questions are asked."""

    def __init__(self, asker: Asker, draft: Draft) -> None:
        self._asker = asker
        self._draft = draft

    def complaint(self, values: Mapping[str, object]) -> str:
        """What the configuration says of these values, by dotted keys; empty: nothing."""
        try:
            self._draft.settings(values)
        except ConfigError as error:
            return str(error).removeprefix(f"{self._draft.file}: ")
        return ""

    def goes_on(self, looking: Coroutine[Any, Any, list[Finding]], what: str) -> bool:
        """Look, and say what was found: whether to go on, or to ask again for `what`. Raises Skipped."""
        self._asker.tell("     Checking ...")
        findings = asyncio.run(looking)
        for finding in findings:
            self._asker.tell(f"     {finding.line}")
        if not any(finding.broken for finding in findings):
            return True
        told = f"     Enter asks again; `keep` takes {what} as it is; `skip` leaves it out"
        return self._asker.ask(told, optional=True).lower() == "keep"
