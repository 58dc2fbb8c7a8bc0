"""Whether the model's provider accepts a key: asked with a call that costs nothing."""

from __future__ import annotations

import asyncio

import aiohttp
from multidict import CIMultiDict

from gateway.chat.finding import LOOK_S, Finding, broken, hint, ok
from gateway.config import Credential

_VERSION = {"anthropic-version": "2023-06-01"}


async def check(api_base_url: str, credential: Credential) -> Finding:
    """Ask for the list of models. What is found has nothing of the key in it."""
    name = f"agent.{credential.kind}"
    headers = CIMultiDict(_VERSION)
    credential.sign(headers)
    base = api_base_url.rstrip("/")
    try:
        async with (
            asyncio.timeout(LOOK_S),
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(f"{base}/v1/models?limit=1", headers=headers, allow_redirects=False) as response,
        ):
            status = response.status
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
