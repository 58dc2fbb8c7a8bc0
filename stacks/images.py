"""What a project's image is made of: layers, each a Dockerfile with its files, and tagged by its content. Pure.

    base (Debian, git, OpenSSH, the sled's Python) <- a layer for each stack <- the project's own <- sled (what starts)

A layer's tag is a hash of all that goes into it and of the tag below. So what is unchanged is never built again, and
what has changed always is; and since the sled comes last, a new version of it costs one small layer.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from stacks.catalog import FALLBACK, FRAGMENT, Stack
from stacks.own import Own, instructions

_HERE = Path(__file__).parent
#: In a wheel the assets are beside this file; in the source tree they are a folder at the top.
_ASSETS = _HERE / "_docker" if (_HERE / "_docker").is_dir() else _HERE.parent / "docker"
_SLED = _HERE.parent / "sled"
#: Files of a stack's folder that do not go into its image.
_NOT_IN_IMAGE = (FRAGMENT, "stack.toml", "markers", "verify")

_NOTHING = Own()
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,40}")

#: Build arguments that every engine knows and keeps out of images. An address in them may hold a password, which no
#: layer gets to see: the engine's side puts a relay of ours in between.
PROXY_ARGUMENTS = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


def is_proxy(argument: str) -> bool:
    """Whether a build argument is one of the proxies."""
    return argument.upper() in PROXY_ARGUMENTS


@dataclass(frozen=True, slots=True)
class File:
    """A file of a build context."""

    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """What the operator's configuration adds to every build."""

    base_image: str = "debian:trixie-slim"
    certificates: Mapping[str, bytes] = field(default_factory=dict)
    apt_sources: Mapping[str, bytes] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layer:
    """One image of the plan."""

    name: str
    tag: str
    dockerfile: str
    files: Mapping[str, File]
    arguments: Mapping[str, str]

    def context(self) -> bytes:
        """The build context, a tar archive; the same bytes for the same content."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path, file in sorted({"Dockerfile": File(self.dockerfile.encode()), **self.files}.items()):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(file.data), file.mode
                archive.addfile(entry, io.BytesIO(file.data))
        return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Overlay:
    """A stack to be layered, and the version to install; empty for a stack without versions."""

    stack: Stack
    version: str = ""


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """The layers of one image, the lowest first. `base_image` is what they begin with; empty if they build that too.

    `stacks` are those that have a layer.
    """

    base_image: str
    layers: tuple[Layer, ...]
    stacks: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """The tag that a container runs."""
        return self.layers[-1].tag

    @property
    def tags(self) -> frozenset[str]:
        """The tags of all layers."""
        return frozenset(layer.tag for layer in self.layers)


def plan_image(inputs: BuildInputs, overlays: Sequence[Overlay], prefix: str, own: Own = _NOTHING) -> ImagePlan:
    """The image of these stacks, layered in the order given; without any: only the base and the sled.

    `own` is what the project adds, once it is confirmed. `prefix` begins every tag, so that gateways that share an
    engine do not remove each other's images.
    """
    layers: list[Layer] = []
    base_image = own.image or inputs.base_image
    if own.dockerfile:
        layers.append(_devcontainer(inputs, own, prefix))
        base_image = ""
    layers.append(_base(inputs, base_image or layers[0].tag, prefix))
    verify: dict[str, File] = {}
    for overlay in overlays:
        if overlay.stack.has_image:
            layers.append(_overlay(inputs, overlay, prefix, layers[-1].tag))
            script = overlay.stack.folder / "verify"
            verify[f"etc/verify/{overlay.stack.name}"] = File(script.read_bytes(), 0o755)
    names = tuple(overlay.stack.name for overlay in overlays if overlay.stack.has_image)
    if own.fragment:
        layers.append(_own(inputs, own, prefix, layers[-1].tag))
    layers.append(_sled(inputs, "-".join(names) or FALLBACK, prefix, layers[-1].tag, verify))
    return ImagePlan(base_image, tuple(layers), names)


def _base(inputs: BuildInputs, base_image: str, prefix: str) -> Layer:
    files = {**_setup(inputs), "sled-requirements.txt": File((_ASSETS / "sled-requirements.txt").read_bytes())}
    text = (_ASSETS / "Dockerfile.base").read_text()
    arguments = {**inputs.arguments, "BASE_IMAGE": base_image}
    return _layer("base", prefix, _declare(text, inputs.arguments), files, arguments)


def _overlay(inputs: BuildInputs, overlay: Overlay, prefix: str, below: str) -> Layer:
    stack = overlay.stack
    files = {path: file for path, file in _read(stack.folder, "").items() if path not in _NOT_IN_IMAGE}
    if overlay.version and not _VERSION.fullmatch(overlay.version):
        raise ValueError(f"an invalid version of {stack.name} could become an instruction")
    # The version is part of the text: another one is another layer.
    version = f"ARG HUSKIES_VERSION={overlay.version}\n" if overlay.version else ""
    text = f"FROM {below}\n{version}{(stack.folder / FRAGMENT).read_text()}"
    return _layer(f"stack-{stack.name}", prefix, _declare(text, inputs.arguments), files, inputs.arguments)


def _own(inputs: BuildInputs, own: Own, prefix: str, below: str) -> Layer:
    text = f"FROM {below}\n{own.fragment}"
    return _layer("own", prefix, _declare(text, inputs.arguments), {}, inputs.arguments)


def _sled(inputs: BuildInputs, name: str, prefix: str, below: str, verify: Mapping[str, File]) -> Layer:
    files = {
        **read_tree(_SLED, "lib/sled"),
        **read_tree(_ASSETS / "bin", "bin"),
        **read_tree(_ASSETS / "etc", "etc"),
        **verify,
    }
    text = f"FROM {below}\n{(_ASSETS / 'Dockerfile.sled').read_text()}"
    return _layer(name, prefix, _declare(text, inputs.arguments), files, inputs.arguments)


def _devcontainer(inputs: BuildInputs, own: Own, prefix: str) -> Layer:
    """The source's own base, with the company's authorities and package sources from its first instruction on."""
    more, files = _names(inputs.arguments), {}
    if inputs.certificates or inputs.apt_sources:
        more += ["COPY setup/ /opt/huskies/setup/", "RUN sh /opt/huskies/setup/before-apt"]
        files = _setup(inputs)
    return _layer("devcontainer", prefix, _behind_from(own.dockerfile, more), files, inputs.arguments)


def _setup(inputs: BuildInputs) -> dict[str, File]:
    return {
        **read_tree(_ASSETS / "setup", "setup"),
        **{f"setup/certs/{name}": File(data) for name, data in inputs.certificates.items()},
        **{f"setup/apt/{name}": File(data) for name, data in inputs.apt_sources.items()},
    }


def _declare(dockerfile: str, arguments: Mapping[str, str]) -> str:
    """A Dockerfile in which the operator's build arguments reach every instruction after FROM."""
    return _behind_from(dockerfile, _names(arguments))


def _names(arguments: Mapping[str, str]) -> list[str]:
    return [f"ARG {name}" for name in sorted(arguments) if not is_proxy(name)]


def _behind_from(dockerfile: str, more: Sequence[str]) -> str:
    """A Dockerfile with instructions inserted after each FROM."""
    ends = {last for _, last, word in instructions(dockerfile) if word == "FROM"}
    lines: list[str] = []
    for number, line in enumerate(dockerfile.splitlines(), 1):
        lines += [line, *(more if number in ends else [])]
    return "\n".join(lines) + "\n"


def _layer(name: str, prefix: str, dockerfile: str, files: Mapping[str, File], arguments: Mapping[str, str]) -> Layer:
    digest = hashlib.sha256()
    told = {key: value for key, value in arguments.items() if not is_proxy(key)}
    for part in (dockerfile, *(f"{key}={value}" for key, value in sorted(told.items()))):
        digest.update(f"{len(part)}:{part}".encode())
    for path, file in sorted(files.items()):
        digest.update(f"{path}:{file.mode:o}:{len(file.data)}:".encode() + file.data)
    return Layer(name, f"{prefix}-{name}:{digest.hexdigest()[:16]}", dockerfile, files, arguments)


def relay_program() -> str:
    """The program, in Perl, through which builds reach a proxy that they must not see."""
    return (_ASSETS / "relay.pl").read_text()


@cache
def read_tree(folder: Path, below: str) -> Mapping[str, File]:
    """The files of a folder that changes only with the gateway's version; see `_read`."""
    return _read(folder, below)


def _read(folder: Path, below: str) -> Mapping[str, File]:
    """The files of one of our folders, named by their place below `below`; executables stay executable."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and "__pycache__" not in relative.parts and path.suffix not in {".pyc", ".in"}:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            found[(Path(below) / relative).as_posix()] = File(path.read_bytes(), mode)
    return found
