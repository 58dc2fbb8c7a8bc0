"""Why a build failed, by what its tools say; and the one thing to type next. Pure.

Each tool says it in its own way: apt, curl, git, pip, uv, npm, cargo, Go and Python. The first that fits counts, from
what is certain to what is likely.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a build failed, with what to type; and the line that tells it."""

    why: str
    line: str


@dataclass(frozen=True, slots=True)
class _Cause:
    says: re.Pattern[str]
    why: str


def _cause(says: str, why: str) -> _Cause:
    return _Cause(re.compile(says, re.IGNORECASE), why)


_CAUSES = (
    _cause(
        r"no space left on device|disk quota exceeded|ENOSPC",
        "the engine's disk is full. Type `docker system df` on the host to see what fills it",
    ),
    _cause(
        r"\b407\b.{0,40}proxy|proxy.{0,60}\b407\b|proxy authentication required|tunnel failed, response 407",
        "your proxy wants a password, or another one. Set it in the configuration: "
        '`[build] build_args = { HTTPS_PROXY = "http://name:password@proxy:3128" }`',
    ),
    _cause(
        r"certificate.?verify.?failed|unable to get local issuer|self.signed certificate|SSL certificate problem"
        r"|certificate is not trusted|certificate verification failed|UnknownIssuer|invalid peer certificate"
        r"|x509: certificate|SELF_SIGNED_CERT|UNABLE_TO_VERIFY|certificate .{0,20}not trusted|TLS is not trusted",
        "builds do not trust the certificate that they are shown. Set `[build] ca_certificates` in the configuration "
        "to your company's authorities, a PEM file",
    ),
    _cause(
        r"could not resolve proxy|(?:cannot|could not|unable to|failed to) connect to (?:the )?proxy"
        r"|proxyerror|proxy CONNECT aborted|huskies: the proxy|tunneling socket could not be established",
        "your proxy does not answer. Look at HTTPS_PROXY in the gateway's environment and in `[build] build_args`",
    ),
    _cause(
        r"temporary failure (?:resolving|in name resolution)|could not resolve host|name or service not known"
        r"|getaddrinfo|EAI_AGAIN|ENOTFOUND|no such host|dns error|failed to lookup address",
        "builds cannot look up names. Give Docker a name server (`dns` in /etc/docker/daemon.json), or set the proxy "
        "that leads out: `[build] build_args = { HTTPS_PROXY = ... }`",
    ),
    _cause(
        r"connection refused|ECONNREFUSED|connection timed out|ETIMEDOUT|network is unreachable|ENETUNREACH"
        r"|no route to host|connection reset by peer|could not connect to|failed to establish a new connection"
        r"|operation timed out",
        "builds do not reach the network. Behind a proxy set `[build] build_args = { HTTPS_PROXY = ... }`; with "
        "mirrors, `apt_sources` and PIP_INDEX_URL",
    ),
    _cause(
        r"\(from versions: none\)",
        "builds found no package index that has what they want. With one of your own, set "
        "`[build] build_args = { PIP_INDEX_URL = ... }`",
    ),
    _cause(
        r"\b40[13]\b.{0,40}(?:forbidden|unauthorized)|(?:forbidden|unauthorized).{0,20}\b40[13]\b",
        "a server refuses what it was asked for. Behind a company's gate, set its mirrors: `[build] apt_sources`, "
        "`build_args = { PIP_INDEX_URL = ... }`",
    ),
)


def cause(lines: Iterable[str]) -> Cause | None:
    """Why a build failed that said this last; None if nobody can tell."""
    said = list(lines)
    return next(
        (Cause(known.why, line.strip()[:200]) for known in _CAUSES for line in said if known.says.search(line)), None
    )
