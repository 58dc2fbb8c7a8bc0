"""What builds take from the host: found where people and distributions put it, and never a password in an image."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway.config import build_inputs, host_network
from gateway.config.host_network import Found
from gateway.config.sections import BuildSection


def pem(number: int, width: int = 64) -> str:
    """Something like a certificate, its lines so long."""
    text = base64.b64encode(f"certificate {number} ".encode() * 20).decode()
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def put(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_plain_host_has_nothing_to_say(tmp_path: Path) -> None:
    put(tmp_path, "etc/apt/sources.list.d/debian.sources", "Types: deb\nURIs: http://ftp.debian.org/debian\n")
    put(tmp_path, "home/.npmrc", "fund=false\n")
    environment = {"HOME": str(tmp_path / "home"), "PATH": "/bin"}
    assert host_network.find(environment, tmp_path) == Found()


@pytest.mark.parametrize(
    "place",
    ["usr/local/share/ca-certificates/corp/it.crt", "etc/pki/ca-trust/source/anchors/it.pem"],
)
def test_authorities_that_somebody_added_are_trusted(tmp_path: Path, place: str) -> None:
    file = put(tmp_path, place, pem(1))
    found = host_network.find({}, tmp_path)
    assert [one.decode() for one in found.certificates] == [pem(1)]
    assert found.told == (f"1 authority of {file.parent}",)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"])
def test_of_a_bundle_only_what_the_distribution_does_not_have_counts(tmp_path: Path, name: str) -> None:
    put(tmp_path, "usr/share/ca-certificates/mozilla/A.crt", pem(1, width=76))
    put(tmp_path, "usr/local/share/ca-certificates/it.crt", pem(2))
    bundle = put(tmp_path, "bundle.pem", f"# words\n{pem(1)}{pem(2)}{pem(3)}{pem(3)}")
    found = host_network.find({name: str(bundle)}, tmp_path)
    assert [one.decode() for one in found.certificates] == [pem(2), pem(3)]
    assert found.told[1] == f"1 authority of {name} ({bundle})"


def test_the_distributions_own_bundle_is_known_already(tmp_path: Path) -> None:
    put(tmp_path, "usr/local/share/ca-certificates/it.crt", pem(2))
    bundle = put(tmp_path, "etc/ssl/certs/ca-certificates.crt", f"{pem(1)}{pem(2)}")
    found = host_network.find({"SSL_CERT_FILE": str(bundle), "PIP_CERT": str(bundle)}, tmp_path)
    assert [one.decode() for one in found.certificates] == [pem(2)]


def test_proxies_of_the_environment_are_gone_through(tmp_path: Path) -> None:
    environment = {
        "https_proxy": "http://ana:canary@proxy.example.org:3128",
        "HTTP_PROXY": "http://proxy.example.org:3128",
        "no_proxy": "localhost,.example.org",
        "ALL_PROXY": "socks5://ana:canary@proxy.example.org",
    }
    found = host_network.find(environment, tmp_path)
    assert found.arguments == {name: value for name, value in environment.items() if name != "ALL_PROXY"}
    assert "canary" not in "".join(found.told)
    assert "https_proxy of the environment: http://[secret]@proxy.example.org:3128" in found.told
    assert "not ALL_PROXY of the environment: a SOCKS proxy with a password" in found.told


def test_indexes_are_as_pip_and_npm_have_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(
        tmp_path,
        "etc/pip.conf",
        "[global]\nindex-url = https://old.example.org/simple\ntrusted-host = pip.example.org\n",
    )
    put(home, ".config/pip/pip.conf", "[global]\nindex-url = https://pip.example.org/simple\n")
    put(home, ".npmrc", "; mine\nregistry = https://npm.example.org/\n//npm.example.org/:_authToken=canary\n")
    found = host_network.find({"HOME": str(home), "PIP_EXTRA_INDEX_URL": "https://more.example.org/simple"}, tmp_path)
    assert found.arguments == {
        "PIP_INDEX_URL": "https://pip.example.org/simple",
        "PIP_TRUSTED_HOST": "pip.example.org",
        "PIP_EXTRA_INDEX_URL": "https://more.example.org/simple",
        "NPM_CONFIG_REGISTRY": "https://npm.example.org/",
    }
    assert "canary" not in str(found)
    assert f"PIP_INDEX_URL of {home}/.config/pip/pip.conf: https://pip.example.org/simple" in found.told


@pytest.mark.parametrize(
    "value", ["https://ana:canary@pip.example.org/simple", "https://canary@pip.example.org/simple"]
)
def test_an_index_with_a_password_is_named_and_not_taken(tmp_path: Path, value: str) -> None:
    found = host_network.find({"PIP_INDEX_URL": value}, tmp_path)
    assert found.arguments == {}
    (told,) = found.told
    assert told.startswith("not PIP_INDEX_URL of ")
    assert "canary" not in told


@pytest.mark.parametrize(
    "value", ["file:///opt/wheels", "http://localhost:3141/simple", "http://127.0.0.1/x", "nonsense"]
)
def test_what_a_build_could_not_reach_is_left_out(tmp_path: Path, value: str) -> None:
    assert host_network.find({"PIP_INDEX_URL": value}, tmp_path).arguments == {}


def test_of_apt_the_mirror_counts_and_never_the_suites(tmp_path: Path) -> None:
    put(
        tmp_path,
        "etc/apt/sources.list",
        "# deb http://no.example.org/debian bookworm main\n"
        "deb [arch=amd64] https://apt.example.org/mirror/debian/ bookworm main contrib\n"
        "deb https://apt.example.org/mirror/debian-security bookworm-security main\n",
    )
    found = host_network.find({}, tmp_path)
    assert (found.mirror, found.security) == (
        "https://apt.example.org/mirror/debian",
        "https://apt.example.org/mirror/debian-security",
    )
    text = build_inputs.read(BuildSection(), found).apt_sources["huskies.sources"].decode()
    assert "URIs: https://apt.example.org/mirror/debian\nSuites: trixie trixie-updates\n" in text
    assert "URIs: https://apt.example.org/mirror/debian-security\nSuites: trixie-security\n" in text
    assert "bookworm" not in text
    assert build_inputs.read(BuildSection(base_image="ubuntu:24.04"), found).apt_sources == {}


def test_the_configuration_comes_before_the_host(tmp_path: Path) -> None:
    own = put(tmp_path, "own.pem", pem(9))
    found = Found(
        (pem(1).encode(),),
        {"https_proxy": "http://a:1", "PIP_INDEX_URL": "https://p/", "no_proxy": "x"},
        "https://m/debian",
    )
    section = BuildSection(
        ca_certificates=str(own), apt_sources="none", build_args={"HTTPS_PROXY": "http://b:2", "PIP_INDEX_URL": "none"}
    )
    inputs = build_inputs.read(section, found)
    assert list(inputs.certificates.values()) == [pem(9).encode()]
    assert inputs.arguments == {"no_proxy": "x", "HTTPS_PROXY": "http://b:2"}
    assert inputs.apt_sources == {}
    assert build_inputs.read(BuildSection(ca_certificates="none"), found).certificates == {}
    assert list(build_inputs.read(BuildSection(), found).certificates.values()) == [pem(1).encode()]


def test_what_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    put(tmp_path, "etc/pip.conf", "this is no [section\n\x00")
    put(tmp_path, "usr/local/share/ca-certificates/no.crt", "no certificate")
    assert host_network.find({"SSL_CERT_FILE": "/nonexistent/x", "HOME": "relative"}, tmp_path) == Found()


def test_apts_own_proxy_is_apts_alone(tmp_path: Path) -> None:
    put(
        tmp_path,
        "etc/apt/apt.conf.d/01proxy",
        '// Acquire::http::Proxy "http://old:1";\n/* a\n"b" */\nAcquire::http::Proxy "http://cache.example.org:3142";\n'
        'Acquire::http::Proxy::mirror.example.org "DIRECT";\n',
    )
    put(tmp_path, "etc/apt/apt.conf", 'Acquire { Retries "3"; https { Proxy "DIRECT"; }; };')
    put(tmp_path, "etc/apt/apt.conf.d/99.dpkg-old", 'Acquire::http::Proxy "http://other:1";')
    found = host_network.find({}, tmp_path)
    assert (found.apt_proxies, found.arguments) == ({"http": "http://cache.example.org:3142"}, {})
    inputs = build_inputs.read(BuildSection(), found)
    assert inputs.apt_sources == {"huskies-proxy.conf": b'Acquire::http::Proxy "http://cache.example.org:3142";\n'}
    assert build_inputs.read(BuildSection(apt_sources="none"), found).apt_sources == {}


@pytest.mark.parametrize(
    ("address", "why"),
    [("http://ana:pw@cache:3142", "its password would stay"), ("http://127.0.0.1:3142", "builds do not reach")],
)
def test_a_proxy_of_apts_that_builds_cannot_use_is_named(tmp_path: Path, address: str, why: str) -> None:
    put(tmp_path, "etc/apt/apt.conf", f'Acquire {{ http {{ Proxy "{address}"; }} }}')
    found = host_network.find({}, tmp_path)
    assert found.apt_proxies == {}
    (told,) = found.told
    assert why in told and "pw" not in told
