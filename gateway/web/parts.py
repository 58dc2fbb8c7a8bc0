"""How each part of a gateway is, in a line that says what to type when it is broken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.chat import Transport
from gateway.engine import Engine
from gateway.errors import EngineError
from gateway.store import Store
from stacks.images import ImagePlan


@dataclass(frozen=True, slots=True)
class Part:
    """One part, as `doctor` and `/readyz` show it."""

    name: str
    ok: bool
    text: str


#: Seconds that a write may take.
_STATE_S = 10.0
_NO_IMAGE = "not built yet: the first project builds it, in a minute or two"


async def look(
    store: Store,
    engine: Engine,
    transports: Mapping[str, Transport],
    troubles: Mapping[str, str],
    others: Sequence[Part],
    *,
    base: ImagePlan,
    draining: bool,
) -> list[Part]:
    """Every part of a running gateway.

    `base` is the image that everything builds on; `others` were looked at already; `troubles` says why a transport does
    not serve, where that is known.
    """
    parts = [Part("gateway", not draining, "shutting down" if draining else "ok")]
    try:
        await asyncio.wait_for(store.probe(), _STATE_S)
        parts.append(Part("state", True, "ok" if store.kind == "SQLite" else f"ok, in {store.kind}"))
    except TimeoutError:
        parts.append(Part("state", False, f"nothing could be written for {_STATE_S:g} s; {store.advice}"))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the line must say
        what_to_do = "" if store.damaged else f"; {store.advice}"
        parts.append(Part("state", False, f"{error}{what_to_do}"))
    try:
        parts.append(Part("engine", True, await engine.check()))
        if engine.isolated:
            parts.append(Part("image", True, "ok" if await engine.has_base(base) else _NO_IMAGE))
    except EngineError as error:
        parts.append(Part("engine", False, str(error)))
    parts += others
    for name, transport in transports.items():
        trouble = troubles.get(name) or f"not connected; see the log, and transports.{name} in the configuration"
        parts.append(Part(name, transport.serving, "ok" if transport.serving else trouble))
    return parts
