"""The one way out for all that the gateway calls: trust, proxies and time-outs are the same for every client.

Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, in either case), also for web sockets; this
host's own addresses are reached directly. A .netrc is never read: its logins are not meant for what we call.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from yarl import URL

from gateway.loopback import is_loopback

#: Seconds to connect.
CONNECT_S = 10.0
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


def session(
    *,
    timeout: aiohttp.ClientTimeout | None = None,
    force_close: bool = False,
    auto_decompress: bool = True,
) -> aiohttp.ClientSession:
    """A session without cookies and with any number of connections; to be made in a running loop, and closed.

    Args:
        timeout: for each request; by default only connecting has a limit.
        force_close: keep no connection.
        auto_decompress: hand out what was meant, rather than what was sent.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=force_close, ssl=ssl.create_default_context()),
        timeout=timeout or aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        auto_decompress=auto_decompress,
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=_Request,
    )


def proxy_for(url: URL) -> URL | None:
    """The proxy that an address is reached by, with its login if it wants one; None for the direct way."""
    host = url.host or ""
    if is_loopback(host):
        return None
    proxies: Mapping[str, str] = getproxies_environment()
    address = proxies.get(_SCHEMES.get(url.scheme, ""), "")
    if not address or proxy_bypass(f"{host}:{url.port}" if url.port else host):
        return None
    return URL(address if "://" in address else f"http://{address}")


class _Request(aiohttp.ClientRequest):
    """A request that goes the way of its address."""

    def __init__(self, method: str, url: URL, **details: Any) -> None:
        if details.get("proxy") is None and (proxy := proxy_for(url)) is not None:
            if proxy.user is not None:  # aiohttp makes it the proxy's own header, whichever way it is asked
                login = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
                details["proxy_headers"] = {"Authorization": login}
            details["proxy"] = proxy.with_user(None)
        super().__init__(method, url, **details)
