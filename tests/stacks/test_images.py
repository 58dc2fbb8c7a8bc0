"""Images are named by what goes into them: what is unchanged is not built again, what changed always is."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from gateway.testing import patience
from stacks import images
from stacks.catalog import Stack, catalog
from stacks.images import BuildInputs, ImagePlan, Layer, Overlay, is_proxy, plan_image, read_tree
from stacks.own import Own

ROOT = Path(__file__).parents[2]
STACKS = {stack.name: stack for stack in catalog()}
#: How the engine takes a name and its tag.
REFERENCE = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
COMPANY = BuildInputs(
    base_image="registry.example.org/debian:trixie",
    certificates={"huskies-000.crt": b"company"},
    apt_sources={"huskies.sources": b"Types: deb\n"},
    arguments={"PIP_INDEX_URL": "https://pypi.example.org/simple", "HTTPS_PROXY": "http://ana:canary@proxy:3128"},
)


class Tree:
    """All that images are made of, in a copy that a test may change."""

    def __init__(self, folder: Path) -> None:
        for name in ("docker", "sled", "stacks/python"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.folder = folder
        self.python = replace(STACKS["python"], folder=folder / "stacks" / "python")

    def plan(self, inputs: BuildInputs | None = None) -> ImagePlan:
        """The plan of the tree as it is now."""
        read_tree.cache_clear()
        return plan_image(inputs or BuildInputs(), [Overlay(self.python, "3.13")], "huskies-1a2b")

    def append(self, file: str) -> None:
        """Change a file."""
        with (self.folder / file).open("a") as stream:
            stream.write("\n# changed\n")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    made = Tree(tmp_path / "tree")
    monkeypatch.setattr(images, "_ASSETS", made.folder / "docker")
    monkeypatch.setattr(images, "_SLED", made.folder / "sled")
    yield made
    read_tree.cache_clear()


def changed(before: ImagePlan, after: ImagePlan) -> list[str]:
    """The layers that have another tag."""
    assert [layer.name for layer in before.layers] == [layer.name for layer in after.layers]
    return [old.name for old, new in zip(before.layers, after.layers, strict=True) if old.tag != new.tag]


def entries(layer: Layer) -> dict[str, tarfile.TarInfo]:
    """What the engine unpacks."""
    with tarfile.open(fileobj=io.BytesIO(layer.context())) as archive:
        return {entry.name: entry for entry in archive.getmembers()}


ALL = ["base", "stack-python", "python"]


def test_layers_stand_on_each_other(tree: Tree) -> None:
    base, stack, sled = tree.plan().layers
    assert [layer.name for layer in (base, stack, sled)] == ALL
    assert "FROM ${BASE_IMAGE}\n" in base.dockerfile
    assert base.arguments == {"BASE_IMAGE": "debian:trixie-slim"}
    assert stack.dockerfile.startswith(f"FROM {base.tag}\n")
    assert sled.dockerfile.startswith(f"FROM {stack.tag}\n")
    assert tree.plan().image == sled.tag
    assert tree.plan().tags == {base.tag, stack.tag, sled.tag}


def test_the_same_inputs_have_the_same_tags(tree: Tree) -> None:
    before = tree.plan(COMPANY)
    for file in tree.folder.rglob("*"):
        os.utime(file, (1, 1))
    (tree.folder / "sled" / "__pycache__").mkdir()
    (tree.folder / "sled" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert tree.plan(COMPANY).tags == before.tags


@pytest.mark.parametrize(
    ("file", "layers"),
    [
        ("sled/relay.py", ["python"]),
        ("sled/agents/claude.py", ["python"]),
        ("docker/bin/entrypoint", ["python"]),
        ("docker/etc/sshd_config", ["python"]),
        ("docker/Dockerfile.sled", ["python"]),
        ("stacks/python/verify", ["python"]),
        ("stacks/python/tools.txt", ["stack-python", "python"]),
        ("stacks/python/Dockerfile.fragment", ["stack-python", "python"]),
        ("docker/Dockerfile.base", ALL),
        ("docker/sled-requirements.txt", ALL),
        ("docker/setup/before-apt", ALL),
        ("stacks/python/markers", []),
        ("stacks/python/stack.toml", []),
        ("stacks/python/tools.in", []),
    ],
)
def test_what_changed_is_built_again_and_nothing_below_it(tree: Tree, file: str, layers: list[str]) -> None:
    before = tree.plan()
    tree.append(file)
    assert changed(before, tree.plan()) == layers


def test_files_that_come_go_or_become_executable_count(tree: Tree) -> None:
    before = tree.plan()
    (tree.folder / "sled" / "relay.py").chmod(0o755)
    executable = tree.plan()
    assert changed(before, executable) == ["python"]
    (tree.folder / "sled" / "more.py").touch()
    more = tree.plan()
    assert changed(executable, more) == ["python"]
    (tree.folder / "sled" / "more.py").rename(tree.folder / "sled" / "other.py")
    assert changed(more, tree.plan()) == ["python"]


@pytest.mark.parametrize(
    "inputs",
    [
        BuildInputs(base_image="debian:bookworm-slim"),
        BuildInputs(certificates={"huskies-000.crt": b"company"}),
        BuildInputs(apt_sources={"huskies.sources": b"Types: deb\n"}),
        BuildInputs(arguments={"PIP_INDEX_URL": "https://pypi.example.org/simple"}),
    ],
)
def test_what_the_operator_adds_changes_everything(tree: Tree, inputs: BuildInputs) -> None:
    assert changed(tree.plan(), tree.plan(inputs)) == ALL


def test_an_arguments_value_counts(tree: Tree) -> None:
    one = BuildInputs(arguments={"PIP_INDEX_URL": "https://one.example.org"})
    two = BuildInputs(arguments={"PIP_INDEX_URL": "https://two.example.org"})
    assert changed(tree.plan(one), tree.plan(two)) == ALL


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "No_Proxy", "ALL_PROXY", "FTP_PROXY"])
def test_a_proxy_reaches_the_build_and_leaves_no_trace(tree: Tree, name: str) -> None:
    assert is_proxy(name)
    plan = tree.plan(BuildInputs(arguments={name: "http://ana:canary@proxy:3128"}))
    assert changed(tree.plan(), plan) == []
    for layer in plan.layers:
        assert layer.arguments[name] == "http://ana:canary@proxy:3128"
        assert f"ARG {name}" not in layer.dockerfile
        assert b"canary" not in layer.context()


def test_build_arguments_are_declared_behind_from(tree: Tree) -> None:
    inputs = BuildInputs(arguments={"PIP_INDEX_URL": "u", "COMPANY": "c", "HTTPS_PROXY": "p"})
    for layer in tree.plan(inputs).layers:
        lines = layer.dockerfile.splitlines()
        froms = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
        assert len(froms) == 1
        assert lines[froms[0] + 1 : froms[0] + 3] == ["ARG COMPANY", "ARG PIP_INDEX_URL"]
        assert layer.arguments.items() >= inputs.arguments.items()
    base = tree.plan(inputs).layers[0].dockerfile.splitlines()
    assert base.index("ARG BASE_IMAGE=debian:trixie-slim") < base.index("FROM ${BASE_IMAGE}")


def test_a_context_is_the_same_bytes_whenever_it_is_made(tree: Tree) -> None:
    before = [layer.context() for layer in tree.plan(COMPANY).layers]
    for file in tree.folder.rglob("*"):
        os.utime(file, (1, 1))
    again = tree.plan(COMPANY)
    assert [layer.context() for layer in again.layers] == before
    assert [layer.context() for layer in again.layers] == before


def test_a_context_is_made_of_our_own_folders_only(tree: Tree) -> None:
    base, stack, sled = tree.plan(COMPANY).layers
    assert {name.split("/")[0] for name in entries(base)} == {"Dockerfile", "setup", "sled-requirements.txt"}
    assert entries(base).keys() >= {"setup/before-apt", "setup/certs/huskies-000.crt", "setup/apt/huskies.sources"}
    assert entries(stack).keys() == {"Dockerfile", "install", "tools.txt"}
    assert {name.split("/")[0] for name in entries(sled)} == {"Dockerfile", "lib", "bin", "etc"}
    assert entries(sled).keys() >= {"lib/sled/__main__.py", "lib/sled/agents/claude.py", "etc/verify/python"}
    for layer in (base, stack, sled):
        for name, entry in entries(layer).items():
            assert entry.isfile(), name
            assert not PurePosixPath(name).is_absolute()
            assert ".." not in PurePosixPath(name).parts
            assert "__pycache__" not in name
            assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 0)


def test_what_is_executable_stays_so(tree: Tree) -> None:
    (tree.folder / "docker" / "bin" / "shell").chmod(0o700)
    base, _, sled = (entries(layer) for layer in tree.plan().layers)
    assert base["setup/before-apt"].mode == 0o755
    for name in ("bin/entrypoint", "bin/shell", "bin/check", "etc/verify/python"):
        assert sled[name].mode == 0o755, "whatever umask it was checked out with"
    assert sled["etc/sshd_config"].mode == 0o644


@pytest.mark.parametrize("overlays", [[], [Overlay(STACKS["minimal"])]])
def test_without_an_overlay_it_is_the_minimal_image(overlays: list[Overlay]) -> None:
    plan = plan_image(BuildInputs(), overlays, "huskies-1a2b")
    assert [layer.name for layer in plan.layers] == ["base", "minimal"]
    assert plan.tags == plan_image(BuildInputs(), (), "huskies-1a2b").tags
    assert plan.layers[0] == plan_image(BuildInputs(), [Overlay(STACKS["python"], "3.13")], "huskies-1a2b").layers[0], (
        "one base for all"
    )
    assert "etc/verify/python" not in entries(plan.layers[-1])


@pytest.mark.parametrize("stack", STACKS.values(), ids=lambda stack: stack.name)
def test_every_tag_is_a_name_that_the_engine_takes(stack: Stack) -> None:
    plan = plan_image(COMPANY, [Overlay(stack, stack.version)], "huskies-0f1e2d3c")
    assert len(plan.tags) == len(plan.layers)
    for layer in plan.layers:
        assert REFERENCE.fullmatch(layer.tag), layer.tag
        assert layer.tag.startswith(f"huskies-0f1e2d3c-{layer.name}:")
    other = plan_image(COMPANY, [Overlay(stack, stack.version)], "huskies-ffffffff")
    assert not other.tags & plan.tags, "another gateway's are not taken for ours"


# --- several stacks, and the project's own ---------------------------------------------------------------------------


def layers(
    *stacks: str, own: Own | None = None, inputs: BuildInputs | None = None, **versions: str
) -> tuple[Layer, ...]:
    overlays = [Overlay(STACKS[stack], versions.get(stack, STACKS[stack].version)) for stack in stacks]
    return plan_image(inputs or BuildInputs(), overlays, "huskies-1a2b", own or Own()).layers


def test_every_stack_is_a_layer_on_the_one_before() -> None:
    base, ruby, node, sled = layers("ruby", "node")
    assert [layer.name for layer in (base, ruby, node, sled)] == ["base", "stack-ruby", "stack-node", "ruby-node"]
    assert ruby.dockerfile.startswith(f"FROM {base.tag}\n")
    assert node.dockerfile.startswith(f"FROM {ruby.tag}\n")
    assert sled.dockerfile.startswith(f"FROM {node.tag}\n")
    assert ruby == layers("ruby")[1], "which a project with that stack alone has too"
    assert entries(sled).keys() >= {"etc/verify/ruby", "etc/verify/node"}


def test_another_version_is_another_layer() -> None:
    default, pinned = layers("go"), layers("go", go="1.25.1")
    assert "ARG HUSKIES_VERSION=1.24\n" in default[1].dockerfile
    assert "ARG HUSKIES_VERSION=1.25.1\n" in pinned[1].dockerfile
    assert default[0] == pinned[0]
    assert {layer.tag for layer in default[1:]}.isdisjoint({layer.tag for layer in pinned[1:]})


@pytest.mark.parametrize("version", ["1.2\nRUN id", "$(id)", "-x", "1 2", "a" * 42])
def test_a_version_is_never_more_than_a_word(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        layers("go", go=version)


def test_the_projects_own_layer_stands_on_the_stacks() -> None:
    plain = layers("python")
    _, python, own, sled = layers("python", own=Own(fragment="RUN apt-get install -y jq\n"), inputs=COMPANY)
    assert own.name == "own"
    assert own.dockerfile == f"FROM {python.tag}\nARG PIP_INDEX_URL\nRUN apt-get install -y jq\n"
    assert entries(own).keys() == {"Dockerfile"}, "no file of the source reaches a build"
    assert own.arguments == COMPANY.arguments, "the engine's side puts a relay before a proxy that wants a password"
    assert sled.dockerfile.startswith(f"FROM {own.tag}\n")
    assert layers("python", own=Own(environment=(("A", "b"),), commands=("make",))) == plain, "these build nothing"


def test_a_base_of_the_projects_own() -> None:
    plan = plan_image(COMPANY, [], "huskies-1a2b", Own(image="example.org/dev:1"))
    assert plan.base_image == plan.layers[0].arguments["BASE_IMAGE"] == "example.org/dev:1"
    text = "from debian as a\nRUN echo \\\nFROM me\nFROM a\nRUN x\n"
    plan = plan_image(COMPANY, [], "huskies-1a2b", Own(dockerfile=text))
    below, base, _ = plan.layers
    assert (plan.base_image, below.name) == ("", "devcontainer")
    ours = "ARG PIP_INDEX_URL\nCOPY setup/ /opt/huskies/setup/\nRUN sh /opt/huskies/setup/before-apt\n"
    assert below.dockerfile == f"from debian as a\n{ours}RUN echo \\\nFROM me\nFROM a\n{ours}RUN x\n"
    assert entries(below).keys() >= {"setup/before-apt", "setup/certs/huskies-000.crt", "setup/apt/huskies.sources"}
    plain = plan_image(BuildInputs(), [], "huskies-1a2b", Own(dockerfile=text)).layers[0]
    assert (plain.dockerfile, set(entries(plain))) == (text, {"Dockerfile"})
    assert base.arguments["BASE_IMAGE"] == below.tag
    other = plan_image(COMPANY, [], "huskies-1a2b", Own(dockerfile="FROM debian\nRUN y\n"))
    assert not plan.tags & other.tags


def test_an_operators_stack_is_read_anew_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "zig"
    folder.mkdir()
    for name, text in {"stack.toml": "", "markers": "", "verify": "true\n", "Dockerfile.fragment": "RUN a\n"}.items():
        (folder / name).write_text(text)
    stack = Stack("zig", "Zig", 1, (), "", folder)

    def tag() -> str:
        return plan_image(BuildInputs(), [Overlay(stack)], "huskies-1a2b").layers[1].tag

    before = tag()
    assert tag() == before
    (folder / "install").write_text("more\n")
    assert tag() != before


# --- as installed ----------------------------------------------------------------------------------------------------

_TAGS = """
import json, sys
from pathlib import Path
import stacks.images
from stacks.catalog import catalog
from stacks.images import BuildInputs, Overlay, plan_image
python = next(stack for stack in catalog() if stack.name == "python")
tags = [layer.tag for layer in plan_image(BuildInputs(), [Overlay(python, "3.13")], "huskies-1a2b").layers]
print(json.dumps({"from": stacks.images.__file__, "tags": tags}))
"""


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        timeout=100 * patience(),
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(ROOT))
    (made,) = folder.glob("huskies-*.whl")
    return made


def test_the_wheel_has_what_images_are_made_of(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    wanted = {f"stacks/_docker/{path.relative_to(ROOT / 'docker')}" for path in (ROOT / "docker").rglob("*.*")}
    wanted |= {f"stacks/_docker/bin/{name}" for name in ("entrypoint", "check", "shell")}
    wanted |= {f"stacks/python/{name}" for name in ("Dockerfile.fragment", "stack.toml", "markers", "verify")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "sled").rglob("*.py")}
    assert wanted <= modes.keys()
    assert "stacks/_docker/Dockerfile.base" in wanted
    for name in ("entrypoint", "check", "shell"):
        assert modes[f"stacks/_docker/bin/{name}"] & 0o111 == 0o111
    tops = {name.split("/")[0] for name in modes if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"gateway", "transports", "commands", "stacks", "sled"}, "none is named docker, as the SDK is"


def test_an_installed_gateway_plans_the_same_images(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    pip("install", "--no-deps", "--no-index", "--target", str(installed), str(wheel))
    program = f"import sys; sys.path.insert(0, {str(installed)!r})\n{_TAGS}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60 * patience(),
        check=True,
    )
    told = json.loads(done.stdout)
    assert Path(told["from"]) == installed / "stacks" / "images.py"
    here = plan_image(BuildInputs(), [Overlay(STACKS["python"], "3.13")], "huskies-1a2b")
    assert told["tags"] == [layer.tag for layer in here.layers]


def test_the_sdk_wins_over_the_folder_of_that_name() -> None:
    program = "import docker; print(docker.from_env.__module__, docker.__file__)"
    for arguments in (["-c", program], ["-m", "timeit", "-n1", "-r1", "import docker; docker.from_env"]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60 * patience(), check=False
        )
        assert done.returncode == 0, done.stderr
        assert str(ROOT / "docker") not in done.stdout
