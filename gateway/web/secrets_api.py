"""What `huskies secrets` asks of the running gateway: names go out, values only come in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.config import Secrets
from gateway.config.secrets import ALL, check_scope
from gateway.errors import StateError, UserError


def routes(
    secrets: Secrets, is_project: Callable[[str], bool], noted: Callable[[str, str], Awaitable[None]]
) -> list[web.RouteDef]:
    """The routes of the command line's socket.

    `is_project`: whether there is a project of that name; `noted` hears what was done with a secret of which scope.
    """

    async def names(_: web.Request) -> web.Response:
        return web.json_response(secrets.names())

    async def put(request: web.Request) -> web.Response:
        asked = await request.json()
        scope, key, value = (str(asked[name]) for name in ("scope", "key", "value"))
        if (scope := check_scope(scope)) != ALL and not is_project(scope):
            raise UserError(f"there is no project {scope}; `huskies projects` lists them")
        secrets.set(scope, key, value)
        await noted(scope, f"{key} was set")
        return web.json_response({})

    async def delete(request: web.Request) -> web.Response:
        scope, key = request.match_info["scope"], request.match_info["key"]
        secrets.delete(scope, key)
        await noted(scope, f"{key} was removed")
        return web.json_response({})

    def told(handler: Callable[[web.Request], Awaitable[web.Response]]) -> Callable[..., Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except (UserError, StateError) as error:
                return web.json_response({"error": str(error)}, status=400)

        return answer

    return [
        web.get("/secrets", told(names)),
        web.put("/secrets", told(put)),
        web.delete("/secrets/{scope}/{key}", told(delete)),
    ]
