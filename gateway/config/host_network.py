"""What this host trusts and goes through, so that builds do the same without a setting.

Company networks put an authority of their own, a proxy and mirrors in front of everything. Whoever set up the host for
that has said it already: to OpenSSL and curl, pip, npm and apt. What has a password in it is not taken, unless it is a
proxy's (see `engine.docker.proxy_relay`), since it would stay readable in the image.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.sections import has_credentials, passwords_in
from gateway.loopback import is_loopback
from stacks.images import PROXY_ARGUMENTS

#: Where distributions keep the authorities that somebody added.
_ANCHORS = (
    "usr/local/share/ca-certificates",
    "etc/pki/ca-trust/source/anchors",
    "etc/ca-certificates/trust-source/anchors",
)
#: Variables that name a bundle; and where a distribution's own authorities are, which every image has.
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT")
_KNOWN = "usr/share/ca-certificates/mozilla"
#: A distribution's own bundles: what they have beside its own authorities are those that were added above.
_SYSTEM = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_MOST = 4 * 2**20
_DEBIAN = re.compile(r"https?://[^\s/]+/(?:\S*/)?debian/?$")
_APT_PROXY = re.compile(r"Acquire::(https?)::Proxy", re.IGNORECASE)
#: Comments, texts, what is around a block, names.
_APT_TOKEN = re.compile(r"/\*.*?\*/|//[^\n]*|#[^\n]*|\"[^\"\n]*\"|[{};]|[^\s{};\"]+", re.DOTALL)
_SECURITY = re.compile(r"https?://[^\s/]+/(?:\S*/)?debian-security/?$")


@dataclass(frozen=True, slots=True)
class Found:
    """What builds get of it. `told`: each thing and where it was found, for `doctor`."""

    certificates: tuple[bytes, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    #: Mirrors of Debian's packages, and of its security updates; empty for Debian's own.
    mirror: str = ""
    security: str = ""
    #: apt's own proxies, by the kind of address that goes through each; other tools do not use them.
    apt_proxies: Mapping[str, str] = field(default_factory=dict)
    told: tuple[str, ...] = ()


def find(environment: Mapping[str, str], root: Path = Path("/")) -> Found:
    """Look. What cannot be read counts as not there: this is a help, and `[build]` comes before it."""
    told: list[str] = []
    certificates = _certificates(environment, root, told)
    arguments = dict(_proxies(environment, told))
    arguments |= dict(_indexes(environment, root, told))
    mirror, security = _mirror(root, _DEBIAN, told), ""
    if mirror:
        security = _mirror(root, _SECURITY, told)
        if not security:
            told.append("no mirror of Debian's security updates: builds do without them")
    apt_proxies = dict(_apt_proxies(root, told))
    return Found(certificates, arguments, mirror, security, apt_proxies, tuple(told))


def _certificates(environment: Mapping[str, str], root: Path, told: list[str]) -> tuple[bytes, ...]:
    found: dict[str, bytes] = {}
    places: list[tuple[Path | str, Path]] = []
    for anchors in _ANCHORS:
        places += [(file.parent, file) for file in _files(root / anchors)]
    system = {(root / bundle).resolve() for bundle in _SYSTEM}
    bundles = {Path(environment[name]).resolve(): name for name in reversed(_BUNDLES) if environment.get(name)}
    own = [(name, bundle) for bundle, name in bundles.items() if bundle not in system]
    places += own
    known = (
        {_print(pem) for file in _files(root / _KNOWN) for pem in _CERTIFICATE.findall(_read(file))} if own else set()
    )
    counts: dict[str, int] = {}
    for place, file in places:
        for pem in _CERTIFICATE.findall(_read(file)):
            if (print_ := _print(pem)) not in known and print_ not in found:
                found[print_] = pem + b"\n"
                where = str(place) if isinstance(place, Path) else f"{place} ({file})"
                counts[where] = counts.get(where, 0) + 1
    told += [f"{count} {'authority' if count == 1 else 'authorities'} of {where}" for where, count in counts.items()]
    return tuple(found.values())


def _print(pem: bytes) -> str:
    """What tells one certificate from another, however its text is wrapped."""
    return hashlib.sha256(b"".join(pem.split()[2:-2])).hexdigest()


def _proxies(environment: Mapping[str, str], told: list[str]) -> Iterator[tuple[str, str]]:
    for name in PROXY_ARGUMENTS:
        for spelt in (name, name.lower()):
            address = environment.get(spelt, "").strip()
            if not address:
                continue
            if address.lower().startswith("socks") and passwords_in(address):
                told.append(f"not {spelt} of the environment: a SOCKS proxy with a password")
                continue
            shown = re.sub(r"[^/@\s]+@", "[secret]@", address)
            told.append(f"{spelt} of the environment: {shown}")
            yield spelt, address


def _settings_of(environment: Mapping[str, str], root: Path) -> list[Path]:
    """Where pip's and npm's configuration may be; a later one counts before an earlier."""
    found = [root / "etc/npmrc", root / "etc/pip.conf", root / "etc/xdg/pip/pip.conf"]
    if (at := environment.get("HOME", "")) and (home := Path(at)).is_absolute():
        own = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
        found += [home / ".npmrc", home / ".pip/pip.conf", own / "pip/pip.conf"]
    return [*found, *([Path(given)] if (given := environment.get("PIP_CONFIG_FILE", "")) else [])]


def _indexes(environment: Mapping[str, str], root: Path, told: list[str]) -> Iterator[tuple[str, str]]:
    """The indexes of pip and npm, as build arguments."""
    values: dict[str, tuple[str, str]] = {}
    for file in _settings_of(environment, root):
        for name, value in _npm(file) if file.name.endswith("npmrc") else _pip(file):
            values[name] = (value, str(file))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "NPM_CONFIG_REGISTRY"):
        for spelt in (name, name.lower()):
            if environment.get(spelt):
                values[name] = (environment[spelt], "the environment")
    for name, (value, where) in sorted(values.items()):
        usable = [word for word in value.split() if name == "PIP_TRUSTED_HOST" or _reachable(word)]
        if has_credentials(value):
            told.append(
                f"not {name} of {where}: its password would stay in the image; name one without in `[build] build_args`"
            )
        elif usable:
            told.append(f"{name} of {where}: {' '.join(usable)}")
            yield name, " ".join(usable)


def _pip(file: Path) -> Iterator[tuple[str, str]]:
    text = _read(file)
    if not text:
        return
    import configparser  # most hosts have no such file

    parser = configparser.RawConfigParser()
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        parser.read_string(text.decode())
        for section in ("global", "install"):
            for key in ("index-url", "extra-index-url", "trusted-host"):
                if value := parser.get(section, key, fallback="").strip():
                    yield f"PIP_{key.upper().replace('-', '_')}", value


def _npm(file: Path) -> Iterator[tuple[str, str]]:
    found = re.findall(r"^\s*registry\s*=\s*(\S+)\s*$", _read(file).decode(errors="replace"), re.MULTILINE)
    if found:
        yield "NPM_CONFIG_REGISTRY", found[-1].strip("\"'")


def _mirror(root: Path, kind: re.Pattern[str], told: list[str]) -> str:
    """A mirror that this host's apt uses: its host and folder, never its suites."""
    for file in (root / "etc/apt/sources.list", *_files(root / "etc/apt/sources.list.d")):
        if file.suffix not in {".list", ".sources"}:
            continue
        for line in _read(file).decode(errors="replace").splitlines():
            for word in [] if line.lstrip().startswith("#") else line.split():
                host = urlsplit(word).hostname if kind.match(word) else None
                if host and not host.endswith("debian.org") and _reachable(word) and not has_credentials(word):
                    told.append(f"apt's mirror of {file}: {word}")
                    return word.rstrip("/")
    return ""


def _apt_proxies(root: Path, told: list[str]) -> Iterator[tuple[str, str]]:
    """The proxies that this host's apt uses, apart from those of the environment."""
    values: dict[str, tuple[str, Path]] = {}
    for file in (*_files(root / "etc/apt/apt.conf.d"), root / "etc/apt/apt.conf"):
        if file.suffix in ("", ".conf"):
            for name, value in _apt_options(_read(file).decode(errors="replace")):
                if (found := _APT_PROXY.fullmatch(name)) is not None:
                    values[found[1].lower()] = (value, file)
    for kind, (address, file) in sorted(values.items()):
        if has_credentials(address):
            told.append(
                f"not apt's proxy of {file}: its password would stay in the image; "
                "set HTTP_PROXY in `[build] build_args`"
            )
        elif _reachable(address):
            told.append(f"apt's proxy of {file}: {address}")
            yield kind, address
        elif address.upper() not in ("", "DIRECT", "FALSE"):
            told.append(
                f"not apt's proxy of {file}: builds do not reach {address}; set HTTP_PROXY in `[build] build_args`"
            )


def _apt_options(text: str) -> Iterator[tuple[str, str]]:
    """The options of an apt.conf, by their full names: `Acquire { http { Proxy "..."; }; };` is one as well."""
    above: list[str] = []
    name = ""
    for found in _APT_TOKEN.finditer(text):
        token = found[0]
        if token == "{":
            above.append(name)
            name = ""
        elif token == "}":
            above, name = above[:-1], ""
        elif token == ";":
            name = ""
        elif token.startswith('"'):
            yield "::".join([*above, name]), token.strip('"')
        elif not token.startswith(("/", "#")):
            name = token


def _reachable(address: str) -> bool:
    """Whether a build could reach an address: one of the web, and not of this host's loopback."""
    try:
        url = urlsplit(address)
        host = url.hostname or ""
    except ValueError:
        return False
    return url.scheme in ("http", "https") and bool(host) and not is_loopback(host)


def _files(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(file for file in folder.rglob("*") if file.is_file())
    return []


def _read(file: Path) -> bytes:
    with contextlib.suppress(OSError):
        if file.stat().st_size <= _MOST:
            return file.read_bytes()
    return b""
