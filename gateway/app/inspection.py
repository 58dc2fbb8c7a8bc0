"""Every live check that the configuration calls for, all at once and each within its time.

The running gateway makes them, as it has the configuration, the environment and the network that count; where none
runs, `huskies doctor` makes the same ones itself.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable
from pathlib import Path

from gateway.app import host
from gateway.app.platforms import PLATFORMS
from gateway.chat.finding import Finding, broken, hint
from gateway.config import Settings
from gateway.config.log import secrets_of
from gateway.web import public_url

log = logging.getLogger(__name__)

#: Seconds for one platform, however many looks it takes.
PLATFORM_S = 13.0


async def inspect(settings: Settings, life: str | None) -> list[Finding]:
    """Look at every platform that is on, at the public address, and at what projects share. At most `PLATFORM_S`.

    `life`: of the running gateway, see `public_url`; None where none runs.
    """
    looks = [look(settings, name) for name in settings.remote_transports]
    looks.append(_address(settings, life))
    found = await asyncio.gather(*looks)
    shared = host.watchers() if settings.engine.kind != "process" else []
    return [*shared, *(finding for each in found for finding in each)]


async def look(settings: Settings, name: str) -> list[Finding]:
    """Look at one platform. No secret of the configuration is in what is found."""
    return [_presentable(settings, finding) for finding in await _bounded(name, PLATFORMS[name].check(settings))]


async def _bounded(name: str, looking: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        async with asyncio.timeout(PLATFORM_S):
            return await looking
    except TimeoutError:
        return [broken(name, f"{name} did not answer within {PLATFORM_S:g} s")]
    except ModuleNotFoundError as error:
        return [broken(name, f"the package {error.name} is missing; type: pip install 'huskies[{name}]'")]
    except Exception as error:  # noqa: BLE001  one platform's must not hide the others'
        # A bug of ours, or an answer that nobody expected. Its text may quote a token, so only its place is told.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        log.error("the check of %s failed: %s", name, where)
        return [broken(name, f"the check itself failed, because of a defect of huskies: {where}")]


async def _address(settings: Settings, life: str | None) -> list[Finding]:
    gateway, slack = settings.gateway, settings.transports.slack
    if gateway.public_url:
        return [await public_url.check(gateway.public_url, gateway.listen, life)]
    if slack is not None and slack.enabled and slack.mode == "http":
        told = "not set, so nobody can tell whether Slack reaches us; set gateway.public_url to the https:// address"
        return [hint(public_url.NAME, told)]
    return []


def _presentable(settings: Settings, finding: Finding) -> Finding:
    """The finding as one line, whatever an answer had in it, and without any secret of the configuration."""
    text = " ".join(finding.text.split())
    for secret in secrets_of(settings):
        text = text.replace(secret, "[secret]") if len(secret) >= 4 else text
    return Finding(finding.name, finding.verdict, text)
