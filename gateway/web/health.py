"""`/healthz`, `/readyz` and `/metrics`: what machines ask a gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.errors import HuskiesError
from gateway.web import public_url
from gateway.web.parts import Part

#: A family of metrics: name, help, type, and (labels, value) samples.
Family = tuple[str, str, str, list[tuple[dict[str, str], float]]]


def routes(
    parts: Callable[[], Awaitable[list[Part]]], metrics: Callable[[], list[Family]], life: str
) -> list[web.RouteDef]:
    """The three routes. `parts` looks at every enabled part; `life` tells this gateway's `/healthz` from another's."""

    async def healthz(_: web.Request) -> web.Response:
        return public_url.answer(life)

    async def readyz(_: web.Request) -> web.Response:
        broken = [part for part in await parts() if not part.ok]
        if not broken:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="".join(f"{part.name}: {part.text}\n" for part in broken))

    async def show_metrics(_: web.Request) -> web.Response:
        # Half a megabyte that a gateway nobody scrapes need not load.
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import Metric

        class Collector:
            def collect(self) -> list[Metric]:
                families = []
                for name, text, kind, samples in metrics():
                    family = Metric(name, text, kind)
                    suffix = "_total" if kind == "counter" else ""
                    for labels, value in samples:
                        family.add_sample(name + suffix, labels, value)
                    families.append(family)
                return families

        registry = CollectorRegistry()
        registry.register(Collector())
        return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")

    return [
        web.get(public_url.PATH, healthz),
        web.get("/readyz", _reporting(readyz)),
        web.get("/metrics", _reporting(show_metrics)),
    ]


def _reporting(
    handler: Callable[[web.Request], Awaitable[web.Response]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def guarded(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except HuskiesError as error:
            return web.Response(status=503, text=f"{error}\n")

    return guarded
