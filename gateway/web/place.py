"""Where the page lives: `huskies.localhost`, and the public address if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

#: A name that browsers resolve to this host by themselves, and that nothing else here has: a cookie of the page never
#: goes to another server on 127.0.0.1, such as an agent's behind `ssh -L`, since cookies do not tell ports apart.
LOCAL_NAME = "huskies.localhost"
#: What else this host is called by people who type.
_ALSO_LOCAL = ("127.0.0.1", "localhost", "[::1]")


@dataclass
class Place:
    """`port`: of the server; what was configured until it listens. `public_url`: empty, or no slash at its end."""

    port: int
    public_url: str = ""

    @property
    def url(self) -> str:
        """The address that people are given."""
        return self.public_url if self.is_public else self.local_url

    @property
    def local_url(self) -> str:
        """The address on this host."""
        return f"http://{self._local_host}"

    @property
    def is_public(self) -> bool:
        """Whether other machines can open the page: there is a public address, and it is a host's own."""
        return bool(self.public_url) and not urlsplit(self.public_url).path

    @property
    def hosts(self) -> frozenset[str]:
        """What a request's Host header may be."""
        return frozenset({self._local_host, *self._public_host})

    def is_also_local(self, host: str) -> bool:
        """Whether somebody typed another name of this host."""
        name, _, port = host.rpartition(":")
        return name in _ALSO_LOCAL and port == str(self.port)

    def origin(self, host: str) -> str:
        """The one origin that may change something, of a request to `host`, which is one of `hosts`."""
        if host in self._public_host:
            parts = urlsplit(self.public_url)
            return f"{parts.scheme}://{parts.netloc.lower()}"
        return f"http://{host}"

    def is_secure(self, host: str) -> bool:
        """Whether what the browser speaks with is https."""
        return self.origin(host).startswith("https://")

    @property
    def _local_host(self) -> str:
        return LOCAL_NAME if self.port == 80 else f"{LOCAL_NAME}:{self.port}"

    @property
    def _public_host(self) -> tuple[str, ...]:
        return (urlsplit(self.public_url).netloc.lower(),) if self.is_public else ()
