"""Stacks on a real engine: built, checked, and what an editor finds over SSH."""

from __future__ import annotations

import asyncio
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import lsp
from tests.support.containers import ContainerGateway, docker, names, shell

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

#: What packages with native parts look for: the clients of three databases.
CLIENTS = "pg_config --version && mysql_config --version && pkg-config --exists --print-errors libpq sqlite3"
#: A generator of code, with the types that most definitions import.
PROTOC = (
    'printf \'syntax = "proto3"; import "google/protobuf/timestamp.proto"; '
    "message A { google.protobuf.Timestamp at = 1; }' > a.proto && protoc -o a.pb a.proto"
)
#: Text is measured, as charts and reports are drawn: a JDK without what draws ends with an UnsatisfiedLinkError.
FONT = (
    "class Font { public static void main(String[] a) { System.out.println(new java.awt.image.BufferedImage(9, 9, 1)"
    '.createGraphics().getFontMetrics(new java.awt.Font(null, 0, 12)).stringWidth("text")); } }\n'
)


@dataclass(frozen=True)
class Project:
    """A source as people have it; what the reply says; the language server; what builds and tests it, offline."""

    files: dict[str, str]
    told: tuple[str, ...]
    server: str
    tests: str
    #: A stack that is layered on it, whose files are there too.
    also: str = ""


PROJECTS = {
    "rust": Project(
        {
            "Cargo.toml": '[package]\nname = "hello"\nversion = "0.1.0"\nedition = "2021"\nrust-version = "1.74"\n',
            "src/main.rs": 'fn main() {\n    println!("{}", hello::one());\n}\n',
            "src/lib.rs": "pub fn one() -> i32 {\n    1\n}\n\n#[test]\nfn adds() {\n    assert_eq!(one() + 1, 2);\n}\n",
        },
        ("stack: rust 1.85.", "read from Cargo.toml", "1.74 in Cargo.toml"),
        "rust-analyzer",
        "cargo test --offline && cargo clippy --offline -- -D warnings && cargo fmt --check && "
        f"cargo install --offline --quiet --path . && hello | grep -x 1 && {CLIENTS} && {PROTOC}",
    ),
    "go": Project(
        {
            "go.mod": "module example.org/hello\n\ngo 1.22.3\n",
            "cmd/hi/main.go": 'package main\n\nfunc main() { println("hi") }\n',
            "hello.go": "package hello\n\nfunc One() int { return 1 }\n",
            "hello_test.go": 'package hello\n\nimport "testing"\n\nfunc TestOne(t *testing.T) {\n'
            "\tif One()+1 != 2 {\n\t\tt.Fail()\n\t}\n}\n",
        },
        ("stack: go 1.24.", "read from go.mod", "1.22.3 in go.mod"),
        "gopls",
        f"go vet ./... && go test ./... && go install ./cmd/hi && hi && {PROTOC}",
    ),
    # Beside Ruby below, as Rails has it.
    "node": Project(
        {
            "package.json": '{"name": "hello", "type": "module", "engines": {"node": ">=22"}, '
            '"scripts": {"test": "tsc && node --test build/hello.test.js"}}\n',
            "tsconfig.json": '{"compilerOptions": {"strict": true, "outDir": "build", "module": "nodenext", '
            '"types": []}, "include": ["*.ts"]}\n',
            "hello.ts": "export const one: number = 1;\n",
            "hello.test.ts": "// @ts-expect-error its types are not installed\n"
            'import { test } from "node:test";\nimport { one } from "./hello.js";\n'
            'test("adds", () => {\n  if (one + 1 !== 2) throw new Error("no");\n});\n',
        },
        ("node 24.", "read from package.json", ">=22 in package.json"),
        "typescript-language-server --stdio",
        "npm test && pnpm --version && yarn --version",
    ),
    "jvm": Project(
        {
            "pom.xml": '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            "<groupId>org.example</groupId><artifactId>hello</artifactId><version>1</version>"
            "<properties><maven.compiler.release>17</maven.compiler.release></properties></project>\n",
            "Font.java": FONT,
            "src/Hello.java": "class Hello { static int one() { return 1; } }\n",
            "test/HelloTest.java": "public class HelloTest { @org.junit.Test public void adds() "
            "{ org.junit.Assert.assertEquals(2, Hello.one() + 1); } }\n",
        },
        ("stack: jvm 21.", "read from pom.xml", "17 in pom.xml"),
        "jdtls",
        "mvn --offline --quiet validate && cp=/usr/share/java/junit4.jar:/usr/share/java/hamcrest-core.jar && "
        "javac --release 17 -cp $cp -d build src/*.java test/*.java && "
        "java -cp build:$cp org.junit.runner.JUnitCore HelloTest && java Font.java && "
        # No colours where nobody sees them.
        "! mvn --offline validate | grep \"$(printf '\\033')\"",
    ),
    "ruby": Project(
        {
            "Gemfile": "ruby '>= 3.1'\ngem 'minitest'\n",
            "lib/hello.rb": "def one = 1\n",
            "bin/hi": '#!/usr/bin/env ruby\nputs "hi"\n',
            "hi.gemspec": 'Gem::Specification.new { |s| s.name = "hi"; s.version = "1"; s.summary = s.author = "x"\n'
            's.files = ["bin/hi"]; s.bindir = "bin"; s.executables = ["hi"] }\n',
            "test/test_hello.rb": 'require "minitest/autorun"\nrequire "hello"\n'
            "class TestHello < Minitest::Test\n  def test_adds = assert_equal(2, one + 1)\nend\n",
        },
        ("stack: ruby 3.3.", "read from Gemfile", "also: node 24."),
        "typeprof --lsp --stdio",
        "bundle install --local --quiet && bundle exec ruby -Ilib test/test_hello.rb && "
        "gem build --silent hi.gemspec && gem install --local --silent hi-1.gem && hi | grep -x hi && "
        f"{CLIENTS}",
        also="node",
    ),
}


def write(folder: Path, files: dict[str, str]) -> None:
    """A source that belongs to whom a project's container runs as."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 1000, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("stacks", [("rust", "jvm"), ("go", "ruby")], ids="-".join)
async def test_what_an_editor_finds_really_works(gateway: ContainerGateway, stacks: tuple[str, ...]) -> None:
    """Two at once, since a build waits for disk and network as much as it computes."""
    await gateway.start()
    replies = await asyncio.gather(*(make(gateway, stack, stack) for stack in stacks))
    for stack, reply in zip(stacks, replies, strict=True):
        await works(gateway, stack, stack, reply)
        if also := PROJECTS[stack].also:
            await works(gateway, stack, also, reply)
    for stack in stacks:
        await a_second_builds_nothing(gateway, stack)


async def make(gateway: ContainerGateway, stack: str, name: str) -> str:
    """Make a project of a stack, from files; the reply."""
    project = PROJECTS[stack]
    also = PROJECTS[project.also].files if project.also else {}
    write(gateway.projects / name, {**project.files, **also})
    text = f"new project {name} --path {gateway.projects / name} --adopt"
    reply = await gateway.said(text, f"p-{name}", conversation=name)
    assert "is ready" in reply, reply
    return reply


async def works(gateway: ContainerGateway, name: str, stack: str, reply: str) -> None:
    """What the reply says of a stack is true, its language server answers, and it builds and tests."""
    project, source = PROJECTS[stack], gateway.projects / name
    for part in project.told:
        assert part in reply, reply
    # The language server, as an editor starts it: by a command of its own session, and by a login shell's PATH.
    answer = await lsp.initialize([*gateway.ssh(name), project.server], "/workspace", 90)
    assert answer["capabilities"]
    program = project.server.split()[0]
    where = await gateway.logs_in(name, f"command -v {program}")
    assert where == await gateway.logs_in(name, "bash -l", stdin=f"command -v {program}".encode())
    assert where == await gateway.logs_in(name, "bash", stdin=f"command -v {program}".encode())
    if stack == "ruby":  # only its own upstream has it: it is there, or the reply says that it is not
        found, _ = await shell(*gateway.ssh(name), "command -v ruby-lsp")
        assert ("without ruby-lsp: " in reply) == (found != 0)
    # It builds and tests, as the project's user, with caches that live in the home.
    output = await gateway.logs_in(name, f"set -e; id -un; {project.tests}", within_s=180)
    assert output.startswith("huskies\n")
    assert {path.stat().st_uid for path in source.rglob("*")} == {1000}
    record = tomllib.loads((source / ".huskies" / "project.toml").read_text())
    assert record["chosen"]["stack"] == name
    assert record["chosen"][stack]["version"] in reply


async def a_second_builds_nothing(gateway: ContainerGateway, stack: str) -> None:
    before = gateway.images()
    assert {f"stack-{each}" for each in (stack, PROJECTS[stack].also) if each} <= set(before)
    reply = await make(gateway, stack, f"{stack}-again")
    assert gateway.images() == before
    assert not gateway.paths(f"{stack}-again").build_log.exists()
    assert PROJECTS[stack].told[0] in reply, "it is told of an image that was built before, too"


@pytest.mark.slow
async def test_a_version_that_is_not_to_be_had_and_a_source_of_ones_own(gateway: ContainerGateway) -> None:
    """Ruby 3.3.99 comes from nowhere: it is asked about. Then what the source adds, seen first."""
    source = gateway.projects / "legacy"
    own = "sudo -E apt-get clean && sudo MINE=mine sh -c 'echo $MINE > /opt/mine' && id -u >> /opt/mine"
    files = {"Gemfile": "", ".ruby-version": "3.3.99\n"}
    write(source, {**files, ".huskies/Dockerfile.fragment": f"RUN {own}\n"})
    await gateway.start()
    asked = await gateway.said(f"new project legacy --path {source} --adopt", "p")
    assert ".ruby-version (3.3.99) is not met: the image has ruby 3.3." in asked
    assert gateway.containers() == []
    assert not gateway.paths("legacy").folder.exists()
    assert sorted(path.name for path in source.iterdir()) == [".huskies", ".ruby-version", "Gemfile"]
    reply = await gateway.said(asked.split("`")[1], "yes")
    assert "is ready" in reply
    assert "not as asked: ruby 3.3.99" in reply
    record = tomllib.loads((source / ".huskies" / "project.toml").read_text())
    assert record["chosen"]["ruby"]["asked"] == [{"file": ".ruby-version", "says": "3.3.99"}]
    assert record["chosen"]["ruby"]["instead_of"][0].startswith("3.3.99: ")

    assert "not used yet: .huskies/Dockerfile.fragment" in reply
    assert await gateway.logs_in("legacy", "ls /opt") == "huskies\n"
    shown = await gateway.said("rebuild legacy", "r")
    assert f"+    RUN {own}" in shown
    rebuilt = await gateway.said(shown.split("`")[-2], "yes2")
    assert "own, ruby built" in rebuilt
    assert await gateway.logs_in("legacy", "cat /opt/mine") == "mine\n0\n"
    assert await gateway.logs_in("legacy", "id -un") == "huskies\n", "root while it is built, nobody afterwards"
    # One that breaks the contract is refused with the line that failed; the project runs on as it was.
    write(source, {".huskies/Dockerfile.fragment": "RUN rm /usr/bin/bundle\n"})
    shown = await gateway.said("rebuild legacy", "r2")
    refused = await gateway.said(shown.split("`")[-2], "yes3")
    assert "breaks the image contract: FAILED toolchain (ruby" in refused
    assert await gateway.logs_in("legacy", "cat /opt/mine") == "mine\n0\n"


async def test_two_at_once_build_each_layer_once(gateway: ContainerGateway) -> None:
    """An operator's own stack, which takes its time, wanted by three projects in the same moment."""
    folder = gateway.state / ".stacks" / "slow"
    write(
        folder,
        {
            "stack.toml": 'summary = "Slow"\norder = 5\nversion = "1"\n',
            "markers": "slow.txt\n",
            "Dockerfile.fragment": "RUN date +%s%N > /opt/slow && sleep 2\n",
            "verify": "test -s /opt/slow\n",
        },
    )
    await gateway.start()
    for name in ("a1", "a2", "a3"):
        write(gateway.projects / name, {"slow.txt": ""})
    replies = await asyncio.gather(
        *(
            gateway.said(f"new project {name} --path {gateway.projects / name} --adopt", name, conversation=name)
            for name in ("a1", "a2", "a3")
        )
    )
    assert all("is ready" in reply and "stack: slow 1 (read from slow.txt)" in reply for reply in replies)
    built = {await gateway.logs_in(name, "cat /opt/slow") for name in ("a1", "a2", "a3")}
    assert len(built) == 1
    assert len(names("images", "-q", f"huskies-{gateway.instance}-stack-slow")) == 1
    logs = [gateway.paths(name).build_log for name in ("a1", "a2", "a3")]
    assert (
        sum("building huskies" in log.read_text() and "stack-slow" in log.read_text() for log in logs if log.exists())
        == 1
    )


@pytest.mark.slow
async def test_a_devcontainer_is_taken_for_what_can_be_had_of_it(gateway: ContainerGateway) -> None:
    source = gateway.projects / "dev"
    warm = names("images", "huskies-tests-base", "--format", "{{.Repository}}:{{.Tag}}")[0]  # has all packages already
    write(
        source,
        {
            ".devcontainer/devcontainer.json": """{
                // as an editor writes it
                "build": {"dockerfile": "Dockerfile", "args": {"WHO": "an editor"}},
                "remoteEnv": {"COLOUR": "blue and green", "TOKEN": "${localEnv:TOKEN}", "LD_PRELOAD": "/evil.so"},
                "runArgs": ["--privileged"],
                "mounts": ["source=/var/run/docker.sock,target=/var/run/docker.sock,type=bind"],
                "features": {"example.org/node:1": {}},
                "customizations": {"vscode": {"extensions": ["ms-python.python"]}},
                "postCreateCommand": "echo $COLOUR > made && id -un >> made && false || echo end >> made",
            }""",
            ".devcontainer/Dockerfile": f"FROM {warm}\nARG WHO=nobody\nRUN echo $WHO > /opt/who\nUSER 1000\n",
        },
    )
    await gateway.start()
    reply = await gateway.said(f"new project dev --path {source} --adopt", "p")
    for part in ("not used yet: .devcontainer/devcontainer.json", "--privileged", "docker.sock", "example.org/node:1"):
        assert part in reply
    assert "ms-python.python" in reply
    assert not (source / "made").exists()
    shown = await gateway.said("rebuild dev", "r")
    assert "variable: COLOUR=blue and green" in shown
    assert "not set: TOKEN, LD_PRELOAD" in reply
    rebuilt = await gateway.said(shown.split("`")[-2], "yes")
    assert "runs in a fresh container" in rebuilt, rebuilt
    assert (source / "made").read_text() == "blue and green\nhuskies\nend\n"
    assert await gateway.logs_in("dev", "cat /opt/who; echo $COLOUR") == "an editor\nblue and green\n"
    found = docker(
        "inspect", gateway.container("dev"), "--format", "{{.HostConfig.Privileged}} {{json .HostConfig.Binds}}"
    )
    assert found == "false null"
