"""devcontainer.json: what can be had is had, what cannot is named, and nothing of it reaches beyond the container."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stacks.devcontainer import Devcontainer, read_devcontainer
from stacks.own import read_own
from stacks.tree import MemoryTree

FILE = ".devcontainer/devcontainer.json"


def read(values: dict[str, Any] | str, **files: str) -> Devcontainer:
    text = values if isinstance(values, str) else json.dumps(values)
    return read_devcontainer(MemoryTree({FILE: text, **files}))


def test_without_one_there_is_nothing() -> None:
    assert read_devcontainer(MemoryTree({"README.md": ""})) == Devcontainer()


@pytest.mark.parametrize("place", [FILE, ".devcontainer.json", ".devcontainer/web/devcontainer.json"])
def test_it_is_found_where_the_specification_says(place: str) -> None:
    found = read_devcontainer(MemoryTree({place: '{"image": "debian:trixie"}'}))
    assert (found.image, found.files) == ("debian:trixie", (place,))


def test_of_several_none_is_used_and_that_is_said() -> None:
    places = {f".devcontainer/{name}/devcontainer.json": '{"image": "x"}' for name in ("api", "web")}
    found = read_devcontainer(MemoryTree(places))
    assert (found.image, found.files) == ("", ())
    assert ".devcontainer/api/devcontainer.json, .devcontainer/web/devcontainer.json" in found.notes[0]


def test_comments_commas_and_a_byte_order_mark() -> None:
    text = '\ufeff{ // "image": "no",\n "image": "yes:1", /* , } */ "name": "a // b, ]", "forwardPorts": [3000,], }'
    found = read(text)
    assert found.image == "yes:1"
    assert found.notes == [f"{FILE}: your editor, or `ssh -L`, forwards ports: 3000"]


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 60_000, '{"image": ' + "9" * 10_000 + "}", "{'a': 1}"])
def test_what_cannot_be_read_is_said(text: str) -> None:
    found = read(text)
    assert (found.image, found.commands) == ("", [])
    assert len(found.notes) == 1


@pytest.mark.timeout(10)  # what is tried again from each character would take minutes
def test_hostile_text_takes_no_time() -> None:
    for text in (
        '{"a": "' + "\\" * 60_000,
        "/*" * 30_000,
        '"' * 60_000,
        '"' + '\\"' * 30_000,
        "/* " * 20_000,
        "," * 60_000,
        ", " * 30_000,
        '{"a":' * 10_000,
    ):
        read(text)


def test_a_dockerfile_with_its_arguments() -> None:
    found = read(
        {
            "build": {
                "dockerfile": "Dockerfile",
                "context": "..",
                "args": {"VARIANT": "3.12 slim", "OTHER": "${localEnv:X}"},
            }
        },
        **{".devcontainer/Dockerfile": "ARG VARIANT=1\r\nFROM debian\r\nARG OTHER\r\nRUN x\r\n"},
    )
    assert found.dockerfile == "ARG VARIANT='3.12 slim'\nFROM debian\nARG OTHER\nRUN x\n"
    assert found.files == (FILE, ".devcontainer/Dockerfile")
    assert found.notes == []


@pytest.mark.parametrize(
    ("dockerfile", "text", "told"),
    [
        ("Dockerfile", "FROM debian\nCOPY . /x\n", ".devcontainer/Dockerfile, line 2 copies files of the source"),
        ("Dockerfile", "FROM debian\n add x /x\n", "line 2 copies files"),
        ("../../outside", "FROM debian\n", "does not exist"),
        ("/etc/passwd", "FROM debian\n", "does not exist"),
        ("missing", "FROM debian\n", "missing does not exist"),
        ("Dockerfile", "RUN x\n", "not translated: build"),
    ],
)
def test_a_dockerfile_that_cannot_be_used(dockerfile: str, text: str, told: str) -> None:
    found = read({"build": {"dockerfile": dockerfile}}, **{".devcontainer/Dockerfile": text})
    assert found.dockerfile == ""
    assert told in found.notes[0]


def test_a_stage_may_copy_from_another() -> None:
    text = "FROM debian AS build\nRUN x\nFROM debian\nCOPY --from=build /x /x\n"
    found = read({"dockerFile": "../Dockerfile"}, Dockerfile=text)
    assert found.dockerfile == text


def test_commands_in_their_order_and_their_forms() -> None:
    found = read(
        {
            "postCreateCommand": {"deps": "npm ci", "hooks": ["git", "config", "a b"]},
            "onCreateCommand": "echo ${containerWorkspaceFolder}",
            "postStartCommand": "serve",
            "initializeCommand": "rm -rf /",
        }
    )
    assert found.commands == ["echo /workspace", "npm ci", "git config 'a b'"]
    assert any("initializeCommand would run on the host; it was dropped" in note for note in found.notes)
    assert f"{FILE}: not translated: postStartCommand" in found.notes


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "LD_PRELOAD", "HUSKIES_TOKEN", "ANTHROPIC_BASE_URL", "GIT_SSH", "a b", ""]
)
def test_what_the_sled_lives_by_cannot_be_changed(name: str) -> None:
    found = read({"remoteEnv": {name: "x", "COLOUR": "blue"}})
    assert found.environment == {"COLOUR": "blue"}
    assert "not set" in found.notes[0]


@pytest.mark.parametrize("value", ["${localEnv:HOME}", "${localWorkspaceFolder}", "a\nb", "x" * 501, 7, None])
def test_nothing_of_the_host_reaches_a_variable(value: object) -> None:
    found = read({"containerEnv": {"SECRET": value}})
    assert found.environment == {}
    assert "not set: SECRET" in found.notes[0]


def test_what_asks_for_privilege_is_dropped_and_named() -> None:
    found = read(
        {
            "image": "debian",
            "privileged": True,
            "capAdd": ["SYS_PTRACE"],
            "securityOpt": ["seccomp=unconfined"],
            "runArgs": ["--network=host"],
            "mounts": ["source=/var/run/docker.sock,target=/var/run/docker.sock,type=bind"],
            "remoteUser": "root",
        }
    )
    notes = "\n".join(found.notes)
    for dropped in (
        "privileged was",
        "capAdd (SYS_PTRACE) was",
        "seccomp=unconfined",
        "--network=host",
        "docker.sock",
    ):
        assert dropped in notes
    assert notes.count("was dropped: a project's container has no such rights") == 5
    assert "root: everything runs as the project's own user, huskies" in notes
    assert found.image == "debian"
    assert read({"privileged": False, "capAdd": []}).notes == []


def test_features_extensions_and_the_unknown_are_named() -> None:
    found = read(
        {
            "features": {"example.org/features/node:1": {}},
            "customizations": {"vscode": {"extensions": ["rust-lang.rust-analyzer"], "settings": {}}, "other": {}},
            "dockerComposeFile": "compose.yml",
            "hostRequirements": {"cpus": 4},
        }
    )
    notes = "\n".join(found.notes)
    assert "Features are not translated: example.org/features/node:1" in notes
    assert "extensions for VS Code, to install once you are connected: rust-lang.rust-analyzer" in notes
    assert "not translated: dockerComposeFile, hostRequirements" in notes


def test_one_that_adds_nothing_asks_nothing() -> None:
    own = read_own(MemoryTree({FILE: '{"name": "x", "forwardPorts": [3000]}'}))
    assert own.files == ()
    assert len(own.notes) == 1


@pytest.mark.parametrize("folder", ["a\nb", "\udcff", "@room", "x" * 61, "a b"])
def test_a_folder_whose_name_could_be_taken_for_something_else_is_none(folder: str) -> None:
    assert (
        read_devcontainer(MemoryTree({f".devcontainer/{folder}/devcontainer.json": '{"image": "x"}'})) == Devcontainer()
    )


def test_what_orders_the_builder_about_is_no_comment() -> None:
    text = "# escape=`\n\n# syntax=example.org/other\nFROM debian\n# why\nRUN x\n"
    assert read({"dockerFile": "../Dockerfile"}, Dockerfile=text).dockerfile == "FROM debian\n# why\nRUN x\n"
    found = read({"dockerFile": "../Dockerfile"}, Dockerfile="FROM debian\nVOLUME /data\n")
    assert (found.dockerfile, "line 2 has a VOLUME" in found.notes[0]) == ("", True)


def test_notes_are_bounded() -> None:
    names = {f"{number}{'x' * 70}": 1 for number in range(500)}
    found = read({"features": names, "remoteEnv": names, "forwardPorts": list(range(10**4)), **names})
    assert sum(map(len, found.notes)) < 4000
