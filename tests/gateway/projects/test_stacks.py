"""Stacks in a gateway: what a source asks for, what its image has of that, and what an operator is asked about."""

from __future__ import annotations

import os
import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio

from gateway.projects.recipes import stored
from stacks.own import OWN_FRAGMENT
from stacks.told import Told
from stacks.words import record
from tests.support.house import House, house, make_settings
from tests.support.ssh_engine import SshEngine

PYTHON = Told(version="3.13.5")
NO_311 = replace(PYTHON, instead=(("3.11.4", "its upstream did not answer; Debian's 3.13.5 is installed"),))


class Place:
    """A gateway on an engine that isolates, and a source."""

    def __init__(self, home: House, source: Path) -> None:
        self.home = home
        self.source = source
        assert isinstance(home.engine, SshEngine)
        self.engine = home.engine

    def write(self, **files: str) -> None:
        """Files of the source; `_` in a name is a dot, `__` a slash."""
        for name, text in files.items():
            self.write_file(name.replace("__", "/").replace("_", "."), text)

    def write_file(self, name: str, text: str) -> None:
        file = self.source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if os.geteuid() == 0:
            for path in (self.source, *self.source.rglob("*")):
                os.chown(path, 1000, 1000)

    async def make(self, more: str = "", contains: str = "is ready") -> str:
        return await self.home.ask(f"new project demo --path {self.source} --adopt {more}", contains=contains)

    async def confirm(self, asked: str, contains: str, *, sender: str = "fake:ana") -> str:
        code = next(part for part in asked.split("`") if part.startswith("confirm "))
        return await self.home.ask(code, contains=contains, sender=sender)

    @property
    def names(self) -> list[str]:
        return [project.name for project in self.home.app.projects.all()]


@pytest_asyncio.fixture
async def place(tmp_path: Path, unused_port: int) -> AsyncIterator[Place]:
    projects = {"root": tmp_path / "projects", "ssh_ports": f"{unused_port}-{unused_port}"}
    source = tmp_path / "projects" / "mine"
    source.mkdir(parents=True)
    async with house(tmp_path, engine=SshEngine(), settings=make_settings(tmp_path, projects=projects)) as made:
        yield Place(made, source)


# --- versions --------------------------------------------------------------------------------------------------------


async def test_the_reply_says_each_stack_its_version_and_where_that_was_read(place: Place) -> None:
    place.engine.told = {"python": replace(PYTHON, without=(("tool", "it did not come; use another"),))}
    place.write(requirements_txt="", package_json='{"engines": {"node": ">=20"}}')
    place.write_file(".python-version", "3.13\n")
    reply = await place.make()
    assert "- stack: python 3.13.5 (read from requirements.txt; version: 3.13 in .python-version)" in reply
    assert "- also: node 24 (read from package.json; version: >=20 in package.json)" in reply
    assert "- without tool: it did not come; use another" in reply
    assert "- python is the primary stack (requirements.txt); node (package.json) too: both are installed." in reply
    assert place.engine.prepared == ["python-node"]
    status = await place.home.ask("status demo")
    assert "- stack: python 3.13.5 (read from requirements.txt; version: 3.13 in .python-version)" in status


async def test_files_that_contradict_each_other_are_named_and_nothing_is_made(place: Place) -> None:
    place.write(package_json='{"engines": {"node": ">=22"}}')
    place.write_file(".nvmrc", "18\n")
    told = await place.make(contains="failed at")
    assert "choose its stack" in told
    assert ".nvmrc" in told and "package.json" in told and "18" in told and ">=22" in told
    assert (place.names, place.engine.prepared) == ([], [])
    assert sorted(path.name for path in place.source.iterdir()) == [".nvmrc", "package.json"]


async def test_a_version_that_is_not_to_be_had_is_asked_about(place: Place) -> None:
    place.engine.told = {"python": NO_311}
    place.write(requirements_txt="")
    place.write_file(".python-version", "3.11.4\n")
    asked = await place.make(contains="Reply")
    assert ".python-version (3.11.4) is not met: the image has python 3.13.5" in asked
    assert "Nothing was left behind" in asked
    assert place.names == []
    assert not (place.home.app.settings.gateway.state_dir / "demo").exists()

    refused = await place.confirm(asked, "No question with that code is open", sender="fake:ben")
    assert "Codes expire after" in refused
    reply = await place.confirm(asked, "is ready")
    assert "- not as asked: python 3.11.4: its upstream did not answer; Debian's 3.13.5 is installed" in reply
    assert "hello" in await place.home.ask("hello")
    assert stored(place.home.app.projects.get("demo")).accepted == ("python 3.11.4",)

    # What was accepted is not asked again; what is new is.
    await place.home.ask("rebuild demo", contains="fresh container")
    place.write_file(".python-version", "3.12.1\n")
    asked = await place.home.ask("rebuild demo", contains="Reply")
    assert "3.12.1" in asked and "stays as it is" in asked
    assert "3.13.5" in await place.confirm(asked, "fresh container")


async def test_without_an_answer_nothing_is_made(place: Place) -> None:
    place.engine.told = {"python": NO_311}
    place.write(requirements_txt="")
    place.write_file(".python-version", "3.11.4\n")
    await place.make(contains="Reply")
    place.write_file(".python-version", "3.13\n")
    assert "is ready" in await place.make(), "the file was changed, and the name is free"


# --- what decides, again ---------------------------------------------------------------------------------------------


async def test_a_rebuild_reads_the_source_again(place: Place) -> None:
    place.write(readme="")
    assert "stack: minimal (no marker found)" in await place.make()
    place.write(Cargo_toml='[package]\nname = "x"\n')
    reply = await place.home.ask("rebuild demo", contains="fresh container")
    assert "- stack: rust 1.85 (read from Cargo.toml)" in reply
    assert place.home.app.projects.get("demo").stack == "rust"


async def test_a_toolchain_that_outgrew_what_was_installed_is_told(place: Place) -> None:
    place.write(requirements_txt="six\n")
    place.engine.told = {"python": Told(version="3.13.5")}
    await place.make()
    place.engine.told = {"python": Told(version="3.13.9")}
    assert "again" not in await place.home.ask("rebuild demo", contains="fresh container")
    place.engine.told = {"python": Told(version="3.14.0")}
    reply = await place.home.ask("rebuild demo", contains="fresh container")
    assert "- python is 3.14 now: what was installed for 3.13 has to be installed again (`pip install`" in reply


async def test_what_a_person_asked_for_stays_until_they_ask_otherwise(place: Place) -> None:
    place.write(Cargo_toml='[package]\nname = "x"\n')
    assert "stack: minimal (asked for)" in await place.make("--stack minimal")
    assert "stack: minimal" in await place.home.ask("rebuild demo", contains="fresh container")
    assert "stack: go" in await place.home.ask("rebuild demo --stack go", contains="fresh container")
    assert place.engine.prepared[-1] == "rust-go", "what the files ask for is there too"
    assert "stack: go" in await place.home.ask("rebuild demo", contains="fresh container")
    assert "stack: rust" in await place.home.ask("rebuild demo --stack auto", contains="fresh container")
    told = await place.home.ask("rebuild demo --stack go,node", contains="fresh container")
    assert "stack: go" in told and "also: node" in told
    assert "There is no stack pyhton" in await place.home.ask("rebuild demo --stack pyhton")


async def test_operators_add_stacks_and_put_their_own_in_the_place_of_ours(place: Place) -> None:
    folder = place.home.app.settings.gateway.state_dir / ".stacks"
    for name, order, marker in (("zig", 15, "build.zig"), ("python", 50, "requirements.txt")):
        (folder / name).mkdir(parents=True)
        (folder / name / "stack.toml").write_text(f'summary = "Our {name}"\norder = {order}\n')
        (folder / name / "markers").write_text(f"{marker}\n")
        (folder / name / "Dockerfile.fragment").write_text("RUN true\n")
        (folder / name / "verify").write_text("true\n")
    told = await place.home.ask("stacks")
    assert "**zig**: Our zig (build.zig)" in told and "**python**: Our python (requirements.txt)" in told
    place.write(build_zig="", requirements_txt="")
    assert "stack: zig (read from build.zig)" in await place.make()
    assert place.engine.prepared == ["zig-python"]
    # One that is broken says so where it matters, and what runs runs on.
    (folder / "zig" / "stack.toml").write_text("order = 15\n")
    told = await place.home.ask("rebuild demo", contains="summary")
    assert str(folder / "zig" / "stack.toml") in told
    assert "hello" in await place.home.ask("hello")


async def test_everything_is_fetched_anew_when_a_person_says_so(place: Place) -> None:
    place.write(go_mod="module x\n")
    await place.make()

    def layers() -> set[str]:
        return set(place.home.app.projects.get("demo").layers)

    before = layers()
    await place.home.ask("rebuild demo", contains="fresh container")
    assert layers() == before
    await place.home.ask("rebuild demo --fresh", contains="fresh container")
    fresh = layers()
    assert fresh.isdisjoint(before)
    await place.home.ask("rebuild demo", contains="fresh container")
    assert layers() == fresh, "and it stays so"


# --- what a source wants to add --------------------------------------------------------------------------------------

DEVCONTAINER = '{"remoteEnv": {"COLOUR": "blue"}, "privileged": true, "postCreateCommand": "make deps"}'


async def test_nothing_of_a_sources_own_counts_before_it_was_seen(place: Place) -> None:
    place.write_file(OWN_FRAGMENT, "RUN apt-get install -y jq\n")
    place.write_file(".devcontainer/devcontainer.json", DEVCONTAINER)
    reply = await place.make()
    unused = f"not used yet: {OWN_FRAGMENT}, .devcontainer/devcontainer.json. `rebuild demo` shows what it would add"
    assert unused in reply
    assert "privileged was dropped" in reply
    demo = place.home.app.projects.get("demo")
    assert (stored(demo).own.fragment, place.home.app.projects.spec(demo).environment) == ("", ())

    asked = await place.home.ask("rebuild demo", contains="Reply")
    for line in ("+    RUN apt-get install -y jq", "+variable: COLOUR=blue", "+run once, in the container: make deps"):
        assert line in asked
    # What was shown is what is built, whatever an agent writes there meanwhile.
    place.write_file(OWN_FRAGMENT, "RUN evil\n")
    reply = await place.confirm(asked, "fresh container")
    assert "- `make deps` ran" in reply
    demo = place.home.app.projects.get("demo")
    assert stored(demo).own.fragment == "RUN apt-get install -y jq\n"
    assert place.home.app.projects.spec(demo).environment == (("COLOUR", "blue"),)
    assert any(":" in tag and "-own:" in tag for tag in demo.layers)

    asked = await place.home.ask("rebuild demo", contains="Reply")
    assert "-    RUN apt-get install -y jq" in asked and "+    RUN evil" in asked and "+variable" not in asked
    assert stored(place.home.app.projects.get("demo")).own.fragment == "RUN apt-get install -y jq\n"


async def test_what_cannot_be_added_is_said_and_the_project_goes_on(place: Place) -> None:
    place.write_file(OWN_FRAGMENT, "COPY . /secrets\n")
    reply = await place.make()
    assert f"{OWN_FRAGMENT}, line 1: COPY cannot be used" in reply
    assert "line 1: COPY cannot be used" in await place.home.ask("rebuild demo")
    (place.source / OWN_FRAGMENT).unlink()
    await place.home.ask("rebuild demo", contains="fresh container")


async def test_a_tombstone_forgets_what_was_confirmed(place: Place) -> None:
    place.write_file(OWN_FRAGMENT, "RUN true\n")
    await place.make()
    await place.confirm(await place.home.ask("rebuild demo", contains="Reply"), "fresh container")
    asked = await place.home.ask("delete demo")
    await place.home.ask(asked.split("`")[1], contains="is deleted")
    assert "not used yet" in await place.home.ask("new project demo", contains="is ready")
    assert stored(place.home.app.projects.get("demo")).own.fragment == ""


async def test_whatever_a_source_offers_a_project_that_is_ready_is_told_of(place: Place) -> None:
    place.write_file(".devcontainer/devcontainer.json", '{"build": {"dockerfile": "a\\u0000b\\ud800"}}')
    (place.source / ".devcontainer" / os.fsdecode(b"\xff")).mkdir()
    reply = await place.make()
    assert "does not exist; it was not used" in reply
    assert "hello" in await place.home.ask("hello")
    await place.home.ask("rebuild demo", contains="fresh container")


async def test_what_was_accepted_and_came_after_all_is_asked_about_again(place: Place) -> None:
    place.engine.told = {"python": NO_311}
    place.write(requirements_txt="")
    place.write_file(".python-version", "3.11.4\n")
    await place.confirm(await place.make(contains="Reply"), "is ready")
    place.engine.told = {"python": Told(version="3.11.4")}
    await place.home.ask("rebuild demo --fresh", contains="fresh container")
    assert stored(place.home.app.projects.get("demo")).accepted == ()
    place.engine.told = {"python": NO_311}
    asked = await place.home.ask("rebuild demo --fresh", contains="Reply")
    images = place.engine.plans[-1].tags
    await place.confirm(asked, "fresh container")
    assert place.engine.plans[-1].tags == images, "what was built for the question is what the answer uses"


async def test_a_container_that_does_not_come_up_gives_way_to_the_one_before(place: Place) -> None:
    place.write(go_mod="module x\n")
    await place.make()
    before = place.home.app.projects.get("demo")
    place.engine.fail_image = "rust-go"
    told = await place.home.ask("rebuild demo --stack rust", contains="did not come up")
    assert "So demo is back in a container like the one it had." in told
    after = place.home.app.projects.get("demo")
    assert (after.image, after.layers, after.stack, after.wanted) == (before.image, before.layers, "go", "")
    assert "hello" in await place.home.ask("hello")


async def test_a_recipe_that_cannot_be_read_costs_nothing_more(place: Place) -> None:
    place.write(go_mod="module x\n")
    await place.make()
    project = place.home.app.projects.get("demo")
    await place.home.app.projects.registry.change(project, recipe='{"of": "another version"}')
    assert "stack: go" in await place.home.ask("status demo")
    assert "stack: go 1.24 (read from go.mod)" in await place.home.ask("rebuild demo", contains="fresh container")


async def test_a_stack_without_an_image_is_not_said_to_be_there(place: Place) -> None:
    folder = place.home.app.settings.gateway.state_dir / ".stacks" / "zig"
    folder.mkdir(parents=True)
    (folder / "stack.toml").write_text('summary = "Zig"\norder = 15\nversion = "0.14"\n')
    (folder / "markers").write_text("build.zig\n")
    place.write(build_zig="")
    assert "stack: zig (read from build.zig); it has no image: none of it is installed" in await place.make()


async def test_where_nothing_is_installed_no_version_is_claimed(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        source = tmp_path / "projects" / "mine"
        source.mkdir(parents=True)
        (source / "go.mod").write_text("module x\n\ngo 1.22\n")
        reply = await home.ask(f"new project demo --path {source} --adopt", contains="is ready")
        assert "- stack: go (read from go.mod; version: 1.22 in go.mod)" in reply
        found = tomllib.loads(record(stored(home.app.projects.get("demo"))))
        assert found["chosen"]["go"] == {"asked": [{"file": "go.mod", "says": "1.22"}]}


# --- the command line ------------------------------------------------------------------------------------------------


async def test_the_plan_of_a_folder_needs_no_gateway(tmp_path: Path) -> None:
    from gateway.cli.plan_report import lines, report

    source = tmp_path / "src"
    source.mkdir()
    (source / "go.mod").write_text("module x\n\ngo 1.22.3\n")
    settings = make_settings(tmp_path)
    found = await report(settings, source, None)
    assert (found["stack"], found["because"]) == ("go", "go.mod")
    assert [layer["name"] for layer in found["layers"]] == ["base", "stack-go", "go"]
    assert lines(found)[0] == "stack: go 1.24 (read from go.mod; version: 1.22.3 in go.mod)"
    assert not settings.gateway.state_dir.exists()
