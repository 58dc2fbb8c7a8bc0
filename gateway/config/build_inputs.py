"""What the configuration adds to image builds, read from the files that it names."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config.host_network import Found
from gateway.config.sections import BuildSection, has_credentials
from gateway.errors import ConfigError
from stacks.images import BuildInputs

#: Switches off what would be taken from the host.
NONE = "none"
#: The host's mirror with the suites of our own base image.
_MIRRORED = """\
Types: deb
URIs: {mirror}
Suites: {suites}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def read(section: BuildSection, host: Found | None = None) -> BuildInputs:
    """Read them; what the configuration leaves open is as on this host. Raises ConfigError, which names the key."""
    host = host or Found()
    named = {name.upper() for name in section.build_args}
    given = {name: value for name, value in host.arguments.items() if name.upper() not in named} | section.build_args
    return BuildInputs(
        base_image=section.base_image,
        certificates=_certificates(section.ca_certificates, host),
        apt_sources=_apt(section, host),
        arguments={name: value for name, value in given.items() if value != NONE},
    )


def _certificates(place: str, host: Found) -> dict[str, bytes]:
    """One file for each authority: `update-ca-certificates` reads only the first one in a file."""
    if place == NONE:
        return {}
    if not place:
        return _named(list(host.certificates))
    path = _path(place, "build.ca_certificates")
    files = sorted(path.glob("*.crt")) + sorted(path.glob("*.pem")) if path.is_dir() else [path]
    found = [pem for file in files for pem in _CERTIFICATE.findall(_read(file, "build.ca_certificates"))]
    if not found:
        raise ConfigError(f"build.ca_certificates: there is no PEM certificate in {path}")
    return _named(found)


def _named(certificates: list[bytes]) -> dict[str, bytes]:
    return {f"huskies-{number:03}.crt": pem.rstrip(b"\n") + b"\n" for number, pem in enumerate(certificates)}


def _apt(section: BuildSection, host: Found) -> dict[str, bytes]:
    """apt's sources, and the host's proxy for it."""
    found = _apt_sources(section, host)
    if host.apt_proxies and section.apt_sources != NONE:
        lines = [f'Acquire::{kind}::Proxy "{address}";\n' for kind, address in host.apt_proxies.items()]
        found["huskies-proxy.conf"] = "".join(lines).encode()
    return found


def _apt_sources(section: BuildSection, host: Found) -> dict[str, bytes]:
    place = section.apt_sources
    if not place and host.mirror and section.base_image == BuildSection().base_image:
        text = _MIRRORED.format(mirror=host.mirror, suites="trixie trixie-updates")
        if host.security:
            text += "\n" + _MIRRORED.format(mirror=host.security, suites="trixie-security")
        return {"huskies.sources": text.encode()}
    if not place or place == NONE:
        return {}
    path = _path(place, "build.apt_sources")
    if path.suffix not in {".sources", ".list"}:
        raise ConfigError(f"build.apt_sources: {path} must end in .sources or .list, as apt requires")
    found = _read(path, "build.apt_sources")
    if has_credentials(found.decode("utf-8", "replace")):
        raise ConfigError(
            f"build.apt_sources: {path} has a URL with a password or token, and it stays readable in the image; "
            "leave out what comes before the @"
        )
    return {f"huskies{path.suffix}": found}


def _path(place: str, key: str) -> Path:
    try:
        path = Path(place).expanduser()
        path.stat()
    except RuntimeError:
        raise ConfigError(f"{key}: there is no home directory for {place}; write the whole path") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{key}: {place} cannot be read: {getattr(error, 'strerror', error)}") from error
    return path


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {error.strerror}") from error
