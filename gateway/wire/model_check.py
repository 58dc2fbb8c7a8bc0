"""Whether the model's provider accepts a key: asked with a call that costs nothing."""

from __future__ import annotations

import asyncio

import aiohttp
from multidict import CIMultiDict

from gateway import outbound
from gateway.chat.finding import LOOK_S, Finding, broken, hint, ok
from gateway.config import Credential

_VERSION = {"anthropic-version": "2023-06-01"}


#: Seconds for which it counts that a key is fine.
_GOOD_FOR_S = 10.0


class Probe:
    """Whether the provider refuses a key: asked by the gateway, in words that no project has a part in."""

    def __init__(self, api_base_url: str) -> None:
        self._base = api_base_url.rstrip("/")
        self._asked: dict[Credential, tuple[float, asyncio.Task[bool]]] = {}

    async def refuses(self, credential: Credential) -> bool:
        """The provider's word; False while it gives none."""
        now = asyncio.get_running_loop().time()
        self._asked = {known: asked for known, asked in self._asked.items() if now - asked[0] < _GOOD_FOR_S}
        if credential not in self._asked:
            self._asked[credential] = (now, asyncio.create_task(self._look(credential)))
        if refused := await asyncio.shield(self._asked[credential][1]):
            self._asked.pop(credential, None)  # one state from now on, whose end must be noticed
        return refused

    async def _look(self, credential: Credential) -> bool:
        try:
            status = await _ask(self._base, credential)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False
        # A subscription's token may be allowed calls, and not the list of models.
        return status == 401 or (status == 403 and credential.kind == "api_key")


async def _ask(base: str, credential: Credential) -> int:
    """The status of a call that costs nothing."""
    headers = CIMultiDict(_VERSION)
    credential.sign(headers)
    async with (
        asyncio.timeout(LOOK_S),
        outbound.session() as session,
        session.get(f"{base}/v1/models?limit=1", headers=headers, allow_redirects=False) as response,
    ):
        return response.status


async def check(api_base_url: str, credential: Credential) -> Finding:
    """Ask for the list of models. What is found has nothing of the key in it."""
    name = f"agent.{credential.kind}"
    base = api_base_url.rstrip("/")
    try:
        status = await _ask(base, credential)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        return broken(name, f"{base} cannot be reached ({why}); look at this host's network, or agent.api_base_url")
    match status:
        case 200:
            return ok(name, f"{base} accepts it")
        case 401:
            return broken(name, f"{base} refuses it; copy it again, or make a new one")
        case 403 if credential.kind == "api_key":
            return broken(name, f"{base} allows it nothing (403): it was disabled, or lacks a permission")
        case 429:
            return hint(name, f"{base} accepts it, but its limit is reached just now")
        case _:
            return hint(name, f"could not be checked: {base} answers {status} when asked for its models")
