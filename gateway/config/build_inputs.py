"""What the configuration adds to image builds, read from the files that it names."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.config.sections import BuildSection, has_credentials
from gateway.errors import ConfigError
from stacks.images import BuildInputs

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def read(section: BuildSection) -> BuildInputs:
    """Read them. Raises ConfigError, which names the key."""
    return BuildInputs(
        base_image=section.base_image,
        certificates=_certificates(section.ca_certificates),
        apt_sources=_apt_sources(section.apt_sources),
        arguments=dict(section.build_args),
    )


def _certificates(place: str) -> dict[str, bytes]:
    """One file for each authority: `update-ca-certificates` reads only the first one in a file."""
    if not place:
        return {}
    path = _path(place, "build.ca_certificates")
    files = sorted(path.glob("*.crt")) + sorted(path.glob("*.pem")) if path.is_dir() else [path]
    found = [pem for file in files for pem in _CERTIFICATE.findall(_read(file, "build.ca_certificates"))]
    if not found:
        raise ConfigError(f"build.ca_certificates: there is no PEM certificate in {path}")
    return {f"huskies-{number:03}.crt": pem.rstrip(b"\n") + b"\n" for number, pem in enumerate(found)}


def _apt_sources(place: str) -> dict[str, bytes]:
    if not place:
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
