"""What an operator adds to builds: read whole, and refused in one line that names the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config import build_inputs
from gateway.config.sections import BuildSection, EngineSection, ProjectsSection
from gateway.config.settings import load
from gateway.errors import ConfigError
from stacks.images import BuildInputs


def pem(words: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{words}\n-----END CERTIFICATE-----\n"


def read(**values: object) -> BuildInputs:
    return build_inputs.read(BuildSection(**values))


def test_nothing_is_added_unless_it_is_asked_for() -> None:
    assert read() == BuildInputs()


def test_all_that_is_added(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(pem("one"))
    (tmp_path / "company.sources").write_text("Types: deb\n")
    assert read(
        base_image="registry.example.org/debian:13",
        ca_certificates=str(tmp_path / "ca.pem"),
        apt_sources=str(tmp_path / "company.sources"),
        build_args={"PIP_INDEX_URL": "https://pypi.example.org"},
    ) == BuildInputs(
        base_image="registry.example.org/debian:13",
        certificates={"huskies-000.crt": pem("one").encode()},
        apt_sources={"huskies.sources": b"Types: deb\n"},
        arguments={"PIP_INDEX_URL": "https://pypi.example.org"},
    )


def test_a_bundle_becomes_one_file_for_each_authority(tmp_path: Path) -> None:
    """`update-ca-certificates` reads the first certificate of a file only."""
    key = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"# Company Root\n{pem('one')}\n{key}{pem('two').rstrip()}")
    found = read(ca_certificates=str(bundle)).certificates
    assert found == {"huskies-000.crt": pem("one").encode(), "huskies-001.crt": pem("two").encode()}


def test_a_folder_of_certificates(tmp_path: Path) -> None:
    (tmp_path / "b.crt").write_text(pem("b"))
    (tmp_path / "a.crt").write_text(pem("a"))
    (tmp_path / "c.pem").write_text(pem("c") + pem("d"))
    (tmp_path / "README").write_text(pem("not this"))
    found = read(ca_certificates=str(tmp_path)).certificates
    assert list(found.values()) == [pem(words).encode() for words in "abcd"]
    assert list(found) == [f"huskies-00{number}.crt" for number in range(4)]


def test_a_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").write_text(pem("one"))
    assert len(read(ca_certificates="~/ca.pem").certificates) == 1


@pytest.mark.parametrize(
    ("key", "place", "told"),
    [
        ("ca_certificates", "/does/not/exist.pem", "No such file or directory"),
        ("ca_certificates", "/etc/hostname", "no PEM certificate in /etc/hostname"),
        ("ca_certificates", "/proc/self/fd", "no PEM certificate"),
        ("ca_certificates", "/" + "x" * 300, "File name too long"),
        ("ca_certificates", "/a\0b", "null"),
        ("ca_certificates", "~nobody-of-that-name/ca.pem", "no home directory"),
        ("apt_sources", "/does/not/exist.sources", "No such file or directory"),
        ("apt_sources", "/etc/hostname", "must end in .sources or .list"),
    ],
)
def test_what_cannot_be_read_names_the_key(key: str, place: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**{key: place})
    assert str(caught.value).startswith(f"build.{key}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_list_of_sources(tmp_path: Path) -> None:
    (tmp_path / "x.sources").mkdir()
    with pytest.raises(ConfigError, match=r"build\.apt_sources: .* Is a directory"):
        read(apt_sources=str(tmp_path / "x.sources"))


@pytest.mark.parametrize("url", ["https://ana:canary@deb.example.org/", "https://canary@deb.example.org/debian"])
@pytest.mark.parametrize("name", ["x.sources", "x.list"])
def test_credentials_in_a_list_of_sources_are_refused(tmp_path: Path, name: str, url: str) -> None:
    """The list is a file of the image, and whoever has the image can read it."""
    (tmp_path / name).write_bytes(b"# \xff\n" + f"deb {url} trixie main\n".encode())
    with pytest.raises(ConfigError, match=r"build\.apt_sources: .* has a URL with a password or token") as caught:
        read(apt_sources=str(tmp_path / name))
    assert "canary" not in str(caught.value)
    (tmp_path / name).write_text("deb [signed-by=/a] https://deb.example.org:8443/a@b trixie main # ana@example.org\n")
    assert len(read(apt_sources=str(tmp_path / name)).apt_sources) == 1


# --- the sections ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        ("4g", 4 * 2**30),
        ("4G", 4 * 2**30),
        ("4gb", 4 * 2**30),
        ("512m", 512 * 2**20),
        (" 65536k ", 64 * 2**20),
        ("1t", 2**40),
        ("134217728", 2**27),
        (134217728, 2**27),
    ],
)
def test_amounts_of_memory(given: object, amount: int) -> None:
    assert EngineSection(memory=given).memory == amount


@pytest.mark.parametrize(
    "given", ["", "g", "4", 4, "63m", "4 g", "-1g", "0", 0, "0g", "1.5g", "4x", "4gib", True, None, [4]]
)
def test_amounts_that_are_none(given: object) -> None:
    with pytest.raises(ValidationError, match="must be an amount of memory"):
        EngineSection(memory=given)


@pytest.mark.parametrize("section", [{"cpus": 0}, {"cpus": -1}, {"cpus": 1e-10}, {"pids": 10}, {"cpus": "many"}])
def test_limits_that_are_none(section: dict[str, object]) -> None:
    """An engine takes a limit of nothing for no limit at all."""
    with pytest.raises(ValidationError):
        EngineSection(**section)


def test_a_range_of_ports() -> None:
    assert ProjectsSection(ssh_ports="22200-22202").port_range == range(22200, 22203)
    assert list(ProjectsSection(ssh_ports=" 1024-1024 ").port_range) == [1024]
    assert len(ProjectsSection().port_range) == 800


@pytest.mark.parametrize(
    "given", ["", "22200", 22200, "22-80", "1023-2000", "3000-2000", "60000-70000", "a-b", "1-2-3"]
)
def test_ranges_that_are_none(given: object) -> None:
    with pytest.raises(ValidationError, match="must be a range of ports above 1023"):
        ProjectsSection(ssh_ports=given)


@pytest.mark.parametrize(
    "name",
    ["GITHUB_TOKEN", "npm_token", "MY_SECRET", "DB_PASSWORD", "PASSWD", "AWS_CREDENTIALS", "API_KEY", "OPENAI_APIKEY"],
)
def test_a_build_argument_that_looks_like_a_secret_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} looks like a secret") as caught:
        BuildSection(build_args={name: "canary"})
    assert "leave it out" in str(caught.value)


@pytest.mark.parametrize("name", ["", "1X", "A B", "A-B", "A=B", "A\nRUN rm -rf /"])
def test_a_build_argument_is_named_as_a_variable_is(name: str) -> None:
    with pytest.raises(ValidationError, match="must be a variable's name"):
        BuildSection(build_args={name: "x"})


@pytest.mark.parametrize(
    "value",
    [
        *("https://ana:canary@pypi.example.org/simple", "http://x:@y", "one https://ana:canary@b/ two"),
        *("https://canary@pypi.example.org/simple", "git+https://canary@git.example.org/x.git"),
    ],
)
def test_a_password_in_a_build_argument_is_refused_but_for_proxies(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="PIP_INDEX_URL holds a password"):
        BuildSection(build_args={"PIP_INDEX_URL": value})
    for name in ("HTTPS_PROXY", "http_proxy"):
        assert BuildSection(build_args={name: value}).build_args == {name: value}
    monkeypatch.setenv("HUSKIES_BUILD__BUILD_ARGS", json.dumps({"PIP_INDEX_URL": value}))
    with pytest.raises(ConfigError, match=r"build\.build_args: PIP_INDEX_URL holds a password") as caught:
        load(None)
    assert "canary" not in str(caught.value)
    plain = {"PIP_INDEX_URL": "https://pypi.example.org:8443/a@b:c/"}
    assert BuildSection(build_args=plain).build_args == plain
