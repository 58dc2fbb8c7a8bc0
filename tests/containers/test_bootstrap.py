"""`new project` on a real engine: what it makes, what it keeps, what it leaves when it is killed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gateway.testing import patience
from tests.support.containers import PORTS, ContainerGateway, as_here, docker, inspect, shell
from tests.support.git_server import GitServer
from tests.support.huskies import Huskies
from tests.support.processes import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


async def test_the_reply_is_all_that_one_needs(gateway: ContainerGateway) -> None:
    await gateway.start()
    reply = await gateway.said("new project demo", "p")
    paths = gateway.paths("demo")
    line = f"ssh huskies@127.0.0.1 -p {PORTS[0]} -i {paths.client_key}"
    assert reply.startswith("**demo** is ready.")
    for part in (str(gateway.projects / "demo"), "minimal (no marker found)", f"`{line}`", "`Host huskies-demo`"):
        assert part in reply
    assert "`huskies status demo`" in reply
    # The line as it stands, but for the question about a host that is not known yet.
    code, output = await shell(
        *line.split(), "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes", *_own_hosts(paths.folder), "pwd"
    )
    assert (code, output.splitlines()[-1]) == (0, "/workspace")
    # And the alias, from the file to Include.
    config = gateway.state / ".ssh" / "config"
    code, output = await shell("ssh", "-F", str(config), "-o", "BatchMode=yes", "huskies-demo", "id -un")
    assert (code, output.strip()) == (0, "huskies")


def _own_hosts(folder: Path) -> list[str]:
    return ["-o", f"UserKnownHostsFile={folder / 'hosts-of-a-person'}", "-o", "HashKnownHosts=no"]


@pytest.mark.slow
async def test_deleted_and_made_again_it_is_the_same_place(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo", "p")
    await gateway.said("new project other", "o")
    await gateway.said("switch demo", "s")
    await gateway.logs_in("demo", "echo kept > file; echo kept > ~/in-home")
    before = gateway.paths("demo").known_hosts.read_text()
    key = gateway.paths("demo").client_key.read_text()
    receipt = await gateway.confirmed("delete demo", "d")
    assert "removed: container, client key, wire" in receipt
    assert f"host key and SSH port {PORTS[0]}" in receipt
    assert not gateway.paths("demo").client_key.exists()
    assert gateway.containers() == [gateway.container("other")]
    assert "huskies-demo" not in (gateway.state / ".ssh" / "config").read_text()

    again = await gateway.said("new project demo", "p2")
    assert "picked up again" in again
    assert f"-p {PORTS[0]} " in again
    assert gateway.paths("demo").known_hosts.read_text() == before
    assert gateway.paths("demo").client_key.read_text() != key, "a key that was given out opens nothing any more"
    assert await gateway.logs_in("demo", "cat file ~/in-home") == "kept\nkept\n"
    assert await gateway.said("hello", "h") == "You said:\nhello"

    purged = await gateway.confirmed("delete demo --purge", "d2")
    assert "kept" not in purged
    assert not (gateway.projects / "demo").exists()
    assert not gateway.paths("demo").folder.exists()


@pytest.mark.slow
async def test_the_last_python_project_takes_its_layers_along(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo --stack python", "p")
    assert gateway.images() == ["base", "python", "stack-python"]
    receipt = await gateway.confirmed("delete demo", "d")
    assert receipt.count("image huskies-") == 2
    assert gateway.images() == ["base"], "the base is the gateway's own, for the next project"
    assert gateway.containers() == []
    assert gateway.networks() == []


#: The first in the order of things comes second: only the first image is built.
POINTS = (
    "project.building",
    "project.reserved",
    "project.folder",
    "project.built",
    "project.started",
    "project.prepared",
    "project.answered",
    "project.ready",
)


@pytest.mark.slow
async def test_killed_at_every_arrow_it_converges_and_leaves_nothing(gateway: ContainerGateway) -> None:
    for number, point in enumerate(POINTS):
        await gateway.start(kill_at=point)
        asking = asyncio.create_task(gateway.send_surely("new project demo", f"p{number}"))
        await gateway.died(60)
        await gateway.start()
        answer = await asyncio.wait_for(asking, 90 * patience())
        assert "".join(answer["replies"]).count("is ready") == 1, (point, answer)
        assert gateway.containers() == [gateway.container("demo")], point
        assert f"-p {PORTS[0]} " in "".join(answer["replies"]), "no port is lost"
        assert await gateway.said("hello", f"h{number}") == "You said:\nhello"
        await gateway.logs_in("demo")
        await gateway.confirmed("delete demo --purge", f"d{number}")
        assert gateway.containers() == [], point
        assert gateway.networks() == [], point
        assert not gateway.paths("demo").folder.exists(), point
        assert not (gateway.projects / "demo").exists(), point
        assert set(gateway.images()) <= {"base", "minimal"}, point
        assert await gateway.stop() == 0


@pytest.mark.slow
async def test_killed_behind_a_clone_it_converges_too(tmp_path: Path, engine: None) -> None:
    token = "a-token-of-the-forge"
    async with GitServer(tmp_path / "git", token=token) as git:
        url = await git.repository("demo", {"requirements.txt": "", "file": "cloned\n"})
        with ContainerGateway(
            tmp_path,
            {
                "git": {"user_name": "T", "user_email": "t@e.org", "tokens": {git.host: token}},
                "build": as_here(tmp_path / "authorities"),
            },
        ) as gateway:
            gateway.environment["SSL_CERT_FILE"] = str(git.ca_file)
            for point in ("project.cloned", "project.started"):
                await gateway.start(kill_at=point)
                asking = asyncio.create_task(gateway.send_surely(f"new project demo --git {url}", f"p-{point}"))
                await gateway.died(60)
                await gateway.start()
                answer = "".join((await asyncio.wait_for(asking, 120 * patience()))["replies"])
                assert "- stack: python 3.13." in answer and "(read from requirements.txt)" in answer
                assert await gateway.logs_in("demo", "cat file; git status --short") == "cloned\n?? .huskies/\n"
                await gateway.confirmed("delete demo --purge", f"d-{point}")
                assert gateway.containers() == []
                assert not (gateway.projects / "demo").exists()
                assert await gateway.stop() == 0
            # A branch by the address of its page, a submodule, a file of LFS; a token is needed for all of them.
            await gateway.start()
            work = git.folder / "work" / "demo"
            await git.repository("inner", {"deep": "fetched\n"})
            (work / ".gitmodules").write_text('[submodule "inner"]\n\tpath = inner\n\turl = ../inner.git\n')
            (work / ".gitattributes").write_text("*.psd filter=lfs diff=lfs merge=lfs -text\n")
            await git.git(work, "checkout", "--quiet", "-b", "dev")
            await git.git(work, "add", ".gitmodules", ".gitattributes")
            commit = await git.git(work.parent / "inner", "rev-parse", "HEAD")
            await git.git(work, "update-index", "--add", "--cacheinfo", f"160000,{commit},inner")
            await git.git(work, "commit", "--quiet", "--message=more")
            page = (await git.publish("demo")).removesuffix(".git") + "/tree/dev"
            page = page.replace(f"{git.host}/", f"{git.host}/you/")
            (git.folder / "repositories" / "you").mkdir()
            for name in ("demo", "inner"):
                (git.folder / "repositories" / "you" / f"{name}.git").symlink_to(f"../{name}.git")
            (git.folder / "repositories" / "you" / "demo").symlink_to("demo.git")
            told = await gateway.said(f"new project demo --git {page} --submodules", "b")
            assert "`git lfs pull` fetches them" in told and "submodule" not in told
            looked = "git branch --show-current; cat inner/deep; git lfs version; git config filter.lfs.smudge"
            branch, deep, version, smudge = (await gateway.logs_in("demo", looked)).splitlines()
            assert (branch, deep, smudge) == ("dev", "fetched", "git-lfs smudge -- %f")
            assert version.startswith("git-lfs/")
            await gateway.confirmed("delete demo --purge", "d-b")
            # What the forge refuses is told with what to do and leaves nothing; an empty folder stays as it was.
            folder = gateway.projects / "mine"
            folder.mkdir(parents=True)
            os.chown(folder, 1000, 1000)
            told = await gateway.said(f"new project demo --path {folder} --git https://{git.host}/not-there.git", "n")
            assert "failed at this step: clone https://" in told
            assert "Nothing was left behind" in told
            assert list(folder.iterdir()) == []
            assert token not in told
            assert gateway.containers() == []


@pytest.mark.slow
async def test_killed_in_the_middle_of_a_rebuild_it_goes_on(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo", "p")
    await gateway.stop()
    await gateway.start(kill_at="project.building")
    asking = asyncio.create_task(gateway.send_surely("rebuild demo --stack python", "r"))
    await gateway.died(60)
    await gateway.start()
    reply = "".join((await asyncio.wait_for(asking, 120 * patience()))["replies"])
    assert "runs in a fresh container" in reply
    assert "python" in await gateway.logs_in("demo", "which python")


@pytest.mark.slow
async def test_rebuild_keeps_what_is_yours_and_says_what_changed(gateway: ContainerGateway) -> None:
    await gateway.start()
    await gateway.said("new project demo", "p")
    await gateway.logs_in("demo", "echo kept > file; echo kept > ~/in-home")
    first = inspect(gateway.container("demo"))
    same = await gateway.said("rebuild demo", "r1")
    assert "image: unchanged" in same
    second = inspect(gateway.container("demo"))
    assert second["Id"] != first["Id"]
    assert second["Image"] == first["Image"]
    python = await gateway.said("rebuild demo --stack python", "r2")
    assert "new: stack-python, python built" in python
    assert f"kept: source, home, sessions, SSH port {PORTS[0]}, host key" in python
    assert "kept\nkept\n" in await gateway.logs_in("demo", "cat file ~/in-home; uv --version")
    assert "building huskies" in await gateway.said("logs demo build 500", "l")
    assert await gateway.said("hello", "h") == "You said:\nhello"


@pytest.mark.slow
async def test_four_at_once_build_once_and_end_at_once(gateway: ContainerGateway) -> None:
    await gateway.start()
    replies = await asyncio.gather(*(gateway.send(f"new project p{n}", f"p{n}", f"room{n}") for n in range(4)))
    assert all("is ready" in "".join(reply["replies"]) for reply in replies)
    logs = [gateway.paths(f"p{n}").build_log for n in range(4)]
    builders = [log for log in logs if log.exists() and "building huskies" in log.read_text()]
    assert len(builders) == 1
    ports = [inspect(gateway.container(f"p{n}"))["HostConfig"]["PortBindings"]["2222/tcp"][0] for n in range(4)]
    assert sorted(int(port["HostPort"]) for port in ports) == list(PORTS[:4])
    assert {port["HostIp"] for port in ports} == {"127.0.0.1"}
    # Neighbours do not see each other.
    address = inspect(gateway.container("p0"))["NetworkSettings"]["Networks"][f"huskies-{gateway.instance}"][
        "IPAddress"
    ]
    code, _ = await shell(*gateway.ssh("p1"), f"timeout 2 bash -c 'exec 3<>/dev/tcp/{address}/2222'")
    assert code != 0
    # And deleted at once, none is in another's way.
    gone = await asyncio.gather(*(gateway.confirmed(f"delete p{n} --purge", f"d{n}", f"room{n}") for n in range(4)))
    assert all("is deleted" in receipt and "kept" not in receipt for receipt in gone), gone
    assert (gateway.containers(), gateway.networks()) == ([], [])
    assert "Host " not in (gateway.state / ".ssh" / "config").read_text()


@pytest.mark.slow
async def test_an_adopted_folder_stays_its_owners(gateway: ContainerGateway) -> None:
    folder = gateway.projects / "mine"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    await gateway.start()
    refused = await gateway.said(f"new project mine --path {folder} --adopt", "p1")
    assert f"`chown -R 1000:1000 {folder}`" in refused
    for path in (folder, *folder.iterdir()):
        os.chown(path, 1234, 1235)
    reply = await gateway.said(f"new project mine --path {folder} --adopt --stack minimal", "p2")
    assert "is ready" in reply
    assert await gateway.logs_in("mine", "id -u; id -g; touch made; git -C /workspace status 2>&1 | head -1")
    assert ((folder / "made").stat().st_uid, (folder / "made").stat().st_gid) == (1234, 1235)
    await gateway.confirmed("delete mine --purge", "d")
    assert (folder / "pyproject.toml").exists(), "an adopted folder is never removed"


@pytest.mark.slow
async def test_the_host_was_restarted(gateway: ContainerGateway) -> None:
    """Containers and gateway find each other, whoever comes first."""
    await gateway.start()
    await gateway.said("new project demo", "p")
    gateway.kill()
    docker("kill", gateway.container("demo"))
    docker("start", gateway.container("demo"))  # as the engine does it for itself
    await gateway.start()
    assert await gateway.said("one", "m1") == "You said:\none"
    gateway.kill()
    docker("kill", gateway.container("demo"))
    await gateway.start()  # nobody started the container
    assert await gateway.said("two", "m2") == "You said:\ntwo"
    await gateway.logs_in("demo")
    docker("rm", "-f", gateway.container("demo"))
    assert await gateway.said("three", "m3") == "You said:\nthree"

    async def ready() -> bool:
        return [p["state"] for p in await gateway.get("/projects")] == ["ready"]

    assert await ready()
    await until(lambda: gateway.containers() == [gateway.container("demo")])


@pytest.mark.slow
async def test_a_project_that_was_made_without_a_container_moves_into_one(gateway: ContainerGateway) -> None:
    with Huskies(gateway.state.parent) as before:  # the same folders, on the process engine
        await before.start()
        await before.send("new project demo", "p")
        await before.send("@@run echo kept > file; echo kept > ~/in-home", "m")
        (sled,) = before.sleds()
        await before.stop()
        assert sled.is_running(), "a sled outlives its gateway"
        gateway.write_config()
        await gateway.start()
        await until(lambda: not sled.is_running() or sled.status() == "zombie", 20)
        async with asyncio.timeout(20 * patience()):
            while "`rebuild demo` gives it one" not in (await gateway.get("/projects/demo"))["last_error"]:
                await asyncio.sleep(0.05)
        source = gateway.projects / "demo"
        refused = await gateway.said("rebuild demo", "r1")
        assert f"`chown -R 1000:1000 {source}`" in refused
        await shell("chown", "-R", "1000:1000", str(source))
        assert "runs in a fresh container" in await gateway.said("rebuild demo", "r2")
        assert await gateway.logs_in("demo", "cat file ~/in-home; echo more >> ~/in-home") == "kept\nkept\n"
        assert await gateway.said("@@run id -un > who", "m2") == "(The agent finished without saying anything.)"
        assert (source / "who").read_text() == "huskies\n"
