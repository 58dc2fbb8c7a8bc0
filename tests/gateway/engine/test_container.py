"""What a project's container is, compared as the whole of it: what is not here is not allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.container import Resources, check_container, container, group, labels, network, passwd
from gateway.engine.spec import ProjectPaths, SledSpec
from sled.protocol import VERSION

LIMITS = Resources(memory=2**30, cpus=1.5, pids=256)
#: All that a container may see of the host, by its place inside, and whether it may write there.
MOUNTS = {
    "/workspace": True,
    "/home/huskies": True,
    "/run/huskies": False,
    "/shared": False,
    "/etc/huskies/ssh_host_ed25519_key": False,
    "/etc/huskies/authorized_keys": False,
    "/etc/passwd": False,
    "/etc/group": False,
}
SEALED = {
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges:true"],
    "Privileged": False,
    "ReadonlyRootfs": True,
    "Memory": 1073741824,
    "MemorySwap": 1073741824,
    "NanoCpus": 1500000000,
    "CpuShares": 256,
    "PidsLimit": 256,
    "ShmSize": 268435456,
    "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    "IpcMode": "private",
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "2"}},
}
TMPFS = {
    "/tmp": "rw,exec,nosuid,nodev,mode=1777,size=536870912",
    "/var/tmp": "rw,exec,nosuid,nodev,mode=1777,size=536870912",
    "/run": "rw,noexec,nosuid,nodev,mode=0755,uid=1000,gid=1001,size=16m",
}


def make_spec(
    *,
    state: Path = Path("/state"),
    source: Path = Path("/src/demo"),
    token: str = "wire-token",
    owner: tuple[int, int] = (1000, 1001),
    port: int = 22200,
) -> SledSpec:
    return SledSpec(
        project="demo",
        paths=ProjectPaths.of(state, "demo"),
        source=source,
        token=token,
        oauth=False,
        image="huskies-1a2b-python:0123",
        owner=owner,
        ssh_port=port,
    )


def bind(source: str, target: str, *, read_only: bool = True) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def test_a_projects_container_is_exactly_this() -> None:
    assert container(make_spec(), "1a2b", LIMITS) == {
        "Image": "huskies-1a2b-python:0123",
        "User": "1000:1001",
        "WorkingDir": "/workspace",
        "Hostname": "demo",
        "OpenStdin": False,
        "AttachStdin": False,
        "Tty": False,
        "StopTimeout": 5,
        "Env": [
            "HOME=/home/huskies",
            "HUSKIES_MODEL_AUTH=api_key",
            "HUSKIES_PROJECT=demo",
            "HUSKIES_TOKEN=wire-token",
            "HUSKIES_WIRE=/run/huskies/gateway.sock",
            "HUSKIES_WORKSPACE=/workspace",
        ],
        "Labels": {
            "huskies.instance": "1a2b",
            "huskies.project": "demo",
            "huskies.sled": "ce7600d168b5fa67",
        },
        "ExposedPorts": {"2222/tcp": {}},
        "HostConfig": {
            **SEALED,
            "Mounts": [
                bind("/src/demo", "/workspace", read_only=False),
                bind("/state/demo/home", "/home/huskies", read_only=False),
                bind("/state/demo/wire", "/run/huskies"),
                bind("/state/.shared", "/shared"),
                bind("/state/demo/ssh_host_ed25519_key", "/etc/huskies/ssh_host_ed25519_key"),
                bind("/state/demo/id_ed25519.pub", "/etc/huskies/authorized_keys"),
                bind("/state/demo/passwd", "/etc/passwd"),
                bind("/state/demo/group", "/etc/group"),
            ],
            "Tmpfs": TMPFS,
            "NetworkMode": "huskies-1a2b",
            "PortBindings": {"2222/tcp": [{"HostIp": "127.0.0.1", "HostPort": "22200"}]},
            "RestartPolicy": {"Name": "unless-stopped"},
        },
    }


def test_the_check_of_an_image_is_as_sealed_and_sees_no_project() -> None:
    checked = check_container(make_spec(), "sha256:abcd", "1a2b", LIMITS)
    scratch = "rw,exec,nosuid,nodev,mode=0755,uid=1000,gid=1001,size=256m"
    assert checked == {
        "Image": "sha256:abcd",
        "Entrypoint": ["/usr/bin/tini", "--", "/opt/huskies/bin/check", str(VERSION)],
        "User": "1000:1001",
        "WorkingDir": "/workspace",
        "OpenStdin": False,
        "AttachStdin": False,
        "Tty": False,
        "StopTimeout": 5,
        "Env": ["HOME=/home/huskies"],
        "Labels": {"huskies.instance": "1a2b"},
        "HostConfig": {
            **SEALED,
            "Mounts": [bind("/state/demo/passwd", "/etc/passwd"), bind("/state/demo/group", "/etc/group")],
            "Tmpfs": {**TMPFS, "/home/huskies": scratch, "/workspace": scratch},
            "NetworkMode": "none",
        },
    }


def test_neighbours_share_a_bridge_and_do_not_see_each_other() -> None:
    assert network("1a2b") == {
        "name": "huskies-1a2b",
        "driver": "bridge",
        "options": {"com.docker.network.bridge.enable_icc": "false"},
        "labels": {"huskies.instance": "1a2b"},
        "check_duplicate": True,
    }


@pytest.mark.parametrize("owner", [(0, 0), (0, 1000), (1000, 0)])
def test_nothing_runs_as_root_nor_in_its_group(owner: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="never runs as root"):
        container(make_spec(owner=owner), "1a2b", LIMITS)
    with pytest.raises(ValueError, match="never runs as root"):
        check_container(make_spec(owner=owner), "sha256:abcd", "1a2b", LIMITS)


def test_the_accounts_inside() -> None:
    assert passwd((1234, 1235)) == (
        "root:*:0:0:root:/root:/bin/bash\n"
        "nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        "huskies:*:1234:1235:huskies:/home/huskies:/opt/huskies/bin/shell\n"
    )
    assert group((1234, 1235)) == "root:*:0:\ntty:*:5:\nnogroup:*:65534:\nhuskies:*:1235:\n"


@pytest.mark.parametrize("owner", [(65534, 65534), (65534, 1000), (1000, 65534), (1000, 5), (1000, 1000)])
def test_no_account_shadows_the_projects(owner: tuple[int, int]) -> None:
    """The first of an id is the one that programs find: as `nobody` the project would have no shell."""
    for text, own in ((passwd(owner), owner[0]), (group(owner), owner[1])):
        ids = {line.split(":")[0]: int(line.split(":")[2]) for line in text.splitlines()}
        assert ids["huskies"] == own
        assert len(set(ids.values())) == len(ids)
        assert "root" in ids
    assert ("nobody" in passwd(owner)) is (owner[0] != 65534)
    assert ("tty" in group(owner)) is (owner[1] != 5)


@pytest.mark.parametrize(("wanted", "there", "given"), [(64.0, 2, 2), (1.5, 2, 1.5), (2.0, 2, 2), (64.0, 0, 64)])
def test_limits_are_within_what_an_engine_has(wanted: float, there: int, given: float) -> None:
    assert Resources(memory=2**30, cpus=wanted, pids=256).within(there) == Resources(memory=2**30, cpus=given, pids=256)


def test_a_project_that_was_made_again_has_other_labels() -> None:
    first, again = labels(make_spec(token="one"), "1a2b"), labels(make_spec(token="two"), "1a2b")
    assert {name for name in first if first[name] != again[name]} == {"huskies.sled"}
    assert labels(make_spec(token="one"), "1a2b") == first
    assert "one" not in str(first), "a label is for everybody who may look"


def test_nothing_of_the_hosts_environment_goes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "HUSKIES_AGENT__API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "PATH"):
        monkeypatch.setenv(name, "canary")
    for made in (container(make_spec(), "1a2b", LIMITS), check_container(make_spec(), "i", "1a2b", LIMITS)):
        assert "canary" not in str(made)


def test_paths_with_spaces_colons_and_commas_stay_whole() -> None:
    made = container(make_spec(state=Path("/a b:c,d"), source=Path("/e: f,ro=1")), "1a2b", LIMITS)
    sources = {mount["Target"]: mount["Source"] for mount in made["HostConfig"]["Mounts"]}
    assert sources["/workspace"] == "/e: f,ro=1"
    assert sources["/home/huskies"] == "/a b:c,d/demo/home"
    assert "Binds" not in made["HostConfig"], "an entry of Binds is cut at its colons"


ids = st.integers(1, 2**31)


@given(
    owner=st.tuples(ids, ids),
    port=st.integers(1024, 65535),
    limits=st.builds(
        Resources, memory=st.integers(2**23, 2**40), cpus=st.floats(0.01, 512), pids=st.integers(64, 2**22)
    ),
    token=st.text(),
)
def test_every_container_is_sealed(owner: tuple[int, int], port: int, limits: Resources, token: str) -> None:
    made = container(make_spec(owner=owner, port=port, token=token), "1a2b", limits)
    check = check_container(make_spec(owner=owner, port=port, token=token), "sha256:abcd", "1a2b", limits)
    for config in (made, check):
        host = config["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert not {"CapAdd", "Devices", "PidMode", "UsernsMode", "VolumesFrom", "Binds"} & host.keys()
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Privileged"] is False
        assert host["ReadonlyRootfs"] is True
        assert host["Memory"] == host["MemorySwap"] == limits.memory
        assert host["NanoCpus"] > 0, "0 is no limit at all"
        assert host["PidsLimit"] == limits.pids
        assert "0" not in config["User"].split(":")
        mounts = {mount["Target"]: mount for mount in host["Mounts"]}
        assert len(mounts) == len(host["Mounts"])
        assert mounts.keys() <= MOUNTS.keys()
        for target, mount in mounts.items():
            assert mount["ReadOnly"] is not MOUNTS[target]
            assert "docker.sock" not in mount["Source"]
    assert {m["Target"] for m in made["HostConfig"]["Mounts"]} == MOUNTS.keys()
    assert made["HostConfig"]["PortBindings"] == {"2222/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
    assert "PortBindings" not in check["HostConfig"]


def test_skills_are_seen_and_cannot_be_changed() -> None:
    plain = container(make_spec(), "1a2b", LIMITS)
    made = container(replace(make_spec(), skills=Path("/state/.skills")), "1a2b", LIMITS)
    mounts = made["HostConfig"]["Mounts"]
    assert mounts == [*plain["HostConfig"]["Mounts"], bind("/state/.skills", "/opt/huskies-skills/skills")]
    assert sorted(set(made["Env"]) - set(plain["Env"])) == ["HUSKIES_SKILLS=/opt/huskies-skills"]
