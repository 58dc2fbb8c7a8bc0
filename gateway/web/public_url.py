"""Whether `gateway.public_url` leads to this gateway: fetched from here, as a platform would fetch it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

from gateway import outbound
from gateway.chat.finding import LOOK_S, Finding, broken, hint, ok

NAME = "public_url"
PATH = "/healthz"
#: In the answer to `PATH`: which life of which gateway gave it. It tells nobody else anything.
LIFE_HEADER = "X-Huskies-Life"


def new_life() -> str:
    """A word that no other process answers with."""
    return secrets.token_hex(16)


def answer(life: str) -> web.Response:
    """What `PATH` is answered with. A cache on the way must not answer in our place."""
    return web.Response(text="ok\n", headers={LIFE_HEADER: life, "Cache-Control": "no-store"})


@contextlib.asynccontextmanager
async def stand_in(listen: str) -> AsyncIterator[str | None]:
    """Answer `PATH` on `listen` (host:port) as a gateway would; its life, or None where the port is taken."""
    life = new_life()
    app = web.Application()

    async def healthz(_: web.Request) -> web.Response:
        return answer(life)

    app.router.add_get(PATH, healthz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError:
            yield None
        else:
            yield life
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where we look, and what we hope to find."""

    url: str
    listen: str
    life: str | None

    @property
    def proxy(self) -> str:
        """What has to be set up, for people."""
        return f"have the TLS proxy there pass {PATH} and /webhooks/ on to {self.listen}"


async def check(url: str, listen: str, life: str | None, look_s: float = LOOK_S) -> Finding:
    """Fetch `url` + `PATH`, once, without following redirects.

    Args:
        url: the public address.
        listen: where the gateway listens.
        life: of the gateway that ought to answer; None: none runs that we know.
        look_s: seconds that it may take.
    """
    place = _Place(url.rstrip("/"), listen, life)
    timeout = aiohttp.ClientTimeout(total=look_s)
    try:
        async with (
            asyncio.timeout(look_s),
            outbound.session(timeout=timeout) as session,
            session.get(place.url + PATH, allow_redirects=False) as response,
        ):
            return _read(place, response)
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        return broken(NAME, f"{_tls(place, error)}; platforms refuse to post there")
    except aiohttp.ClientConnectorDNSError:
        return broken(NAME, f"{place.url}: there is no such host; correct gateway.public_url, or its entry in the DNS")
    except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError):
        return hint(NAME, f"{place.url} could not be checked from here: this host's own proxy does not let us out")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return await _nothing(place, error)


def _read(place: _Place, response: aiohttp.ClientResponse) -> Finding:
    """What an answer means."""
    if 300 <= response.status < 400:
        return broken(NAME, _redirect(place, response))
    if response.status in (502, 503, 504) and place.life is None:
        return hint(NAME, f"a proxy answers at {place.url}, and no gateway runs behind it; type: huskies run")
    if response.status != 200:
        return broken(
            NAME, f"{place.url} leads to something else, which answers {PATH} with {response.status}: {place.proxy}"
        )
    match response.headers.get(LIFE_HEADER):
        case None:
            return broken(NAME, f"{place.url} leads to another server, not to this gateway: {place.proxy}")
        case found if found == place.life:
            return ok(NAME, f"{place.url} leads to this gateway")
        case _ if place.life is None:
            return hint(NAME, f"a gateway answers at {place.url}; whether it is yours shows once it runs here")
        case _:
            return broken(NAME, f"{place.url} leads to another huskies gateway: {place.proxy}")


def _redirect(place: _Place, response: aiohttp.ClientResponse) -> str:
    try:
        target = URL(place.url).join(URL(response.headers.get("Location", "")))
    except ValueError:
        target = URL(place.url)
    # Without its query: that may be somebody's ticket.
    shown = target.with_query(None).with_fragment(None).with_user(None)
    base = str(shown).removesuffix(PATH).rstrip("/")
    if shown.path.endswith(PATH) and base != place.url:
        return f'{place.url} redirects to {base}, which platforms do not follow; set gateway.public_url = "{base}"'
    return (
        f"{place.url}{PATH} redirects to {shown}, perhaps a login page: let {PATH} and /webhooks/ through without it, "
        f"to {place.listen}"
    )


def _tls(place: _Place, error: aiohttp.ClientConnectorError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or type(error.certificate_error).__name__
            return f"the certificate of {place.url} is not valid: {str(why).rstrip('.')}; get one for this name"
        case _:
            return f"what answers at {place.url} does not speak TLS: put a TLS proxy there"


async def _nothing(place: _Place, error: Exception) -> Finding:
    """Nobody answered. Only at an address of this host's own does that prove anything."""
    why = "no answer in time" if isinstance(error, TimeoutError) else "no connection"
    told = f"nothing answers at {place.url} ({why})"
    if await _is_here(URL(place.url).host or ""):
        return broken(NAME, f"{told}: {place.proxy}")
    return hint(
        NAME,
        f"could not be checked from here: {told}. Many routers do not let a host reach its own public address. Open "
        f"{place.url}{PATH} from another network: it says ok, or {place.proxy}",
    )


async def _is_here(host: str) -> bool:
    """Whether `host` is this host, by an address of one of its interfaces."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    import psutil  # only a question about the public address needs it, and a start waits for it

    ours = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(told[4][0] in ours or str(told[4][0]).startswith("127.") for told in found)
