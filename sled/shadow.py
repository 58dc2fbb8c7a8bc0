"""Trees of the workspace in the sled's own git repository, which the workspace's repository knows nothing about.

Nothing that the workspace defines is run: hooks, filters and drivers come from configuration, and only ours is read
here; attributes cannot even change a byte (`info/attributes` overrides them). Ignore files count. Nested repositories,
large and unreadable files are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Bytes of one file, and of all new ones together, that a tree takes in.
MAX_FILE_BYTES = 20 * 2**20
MAX_NEW_BYTES = 256 * 2**20
#: Seconds after which even work in the background is given up.
GIVE_UP_S = 120.0
#: How many of the paths that were left out are named.
_MAX_NAMED = 20
#: From this many new files on, they are written as one pack; a file for each takes several times as long.
_MANY = 100
_ONE_PACK = ("-c", "core.bigFileThreshold=1")

_CONFIG = """[core]
    repositoryformatversion = 0
    bare = false
    fileMode = true
    symlinks = true
    autocrlf = false
    safecrlf = false
    fsmonitor = false
    hooksPath = /dev/null
    attributesFile = /dev/null
    excludesFile = /dev/null
    quotePath = false
    logAllRefUpdates = false
[gc]
    auto = 0
"""
_ATTRIBUTES = "* -text !eol -filter -ident !working-tree-encoding !diff !merge !whitespace\n"
_EXCLUDE = "/.huskies/\n"

Spawn = Callable[..., Awaitable[asyncio.subprocess.Process]]


class NoTree(Exception):
    """The workspace could not be looked at; the text says why."""


class GitFailed(NoTree):
    """A git command failed."""


@dataclass(frozen=True)
class Tree:
    """A state of the workspace. `left_out`: paths that it has but the tree does not."""

    id: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """How a path differs between two trees; mode 0: it does not exist."""

    path: bytes
    old_mode: int
    old_blob: str
    new_mode: int
    new_blob: str


class Shadow:
    """The repository at `folder`, of `workspace`. Its users make sure that only one of them takes a tree at a time."""

    def __init__(self, folder: Path, workspace: Path, environment: Mapping[str, str], spawn: Spawn) -> None:
        self._folder = folder
        self._workspace = workspace
        self._spawn = spawn
        plain = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
        self._environment = {
            **plain,
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CEILING_DIRECTORIES": str(workspace.parent),
        }
        self._ours = {
            "GIT_DIR": str(folder),
            "GIT_WORK_TREE": str(workspace),
            "GIT_NO_REPLACE_OBJECTS": "1",
        }
        #: The tree of the index, once it is known.
        self._tree = ""

    @property
    def workspace(self) -> Path:
        return self._workspace

    async def take(self) -> Tree:
        """The tree of the workspace as it is now. Raises NoTree, OSError."""
        await asyncio.to_thread(self._make)
        listed = await self.git("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard")
        look = await asyncio.to_thread(self._look, set(filter(None, listed.split(b"\0"))))
        if look.new_bytes > MAX_NEW_BYTES:
            raise NoTree(f"more than {MAX_NEW_BYTES // 2**20} MB of files are new")
        if look.gone:
            self._tree = ""
            await self.git("update-index", "-z", "--force-remove", "--stdin", stdin=b"\0".join(look.gone))
        if look.there:
            self._tree = ""
            config = _ONE_PACK if len(look.there) > _MANY else ()
            add = ("update-index", "-z", "--add", "--remove", "--replace", "--stdin")
            await self.git(*add, stdin=b"\0".join(look.there), config=config)
        if not self._tree:
            self._tree = (await self.git("write-tree")).decode().strip()
        return Tree(self._tree, tuple(sorted(look.left_out)[:_MAX_NAMED]))

    async def head(self) -> str:
        """The commit that the workspace's own repository is at; empty where there is none."""
        try:
            output = await self.git("rev-parse", "--verify", "--quiet", "HEAD", ours=False)
        except GitFailed:
            return ""
        return output.decode().strip()

    async def changes(self, old: str, new: str) -> list[Change]:
        """What differs from one tree to another. Raises NoTree."""
        if old == new:
            return []
        raw = await self.git("diff-tree", "-r", "-z", "--no-renames", "--no-abbrev", old, new)
        fields = raw.split(b"\0")
        found = []
        for about, path in zip(fields[::2], fields[1::2], strict=False):
            old_mode, new_mode, old_blob, new_blob, _ = about.decode().removeprefix(":").split(" ")
            found.append(Change(path, int(old_mode, 8), old_blob, int(new_mode, 8), new_blob))
        return found

    async def patch(self, old: str, new: str, *how: str, most: int) -> bytes:
        """At most `most` bytes of the difference between two trees, in the form that `how` says."""
        plain = ("-r", "--no-ext-diff", "--no-textconv", "--no-color", "--find-renames")
        return await self.git("diff-tree", *plain, *how, old, new, most=most)

    async def blob(self, blob: str) -> bytes:
        """What a file held. Raises NoTree."""
        return await self.git("cat-file", "blob", blob)

    async def ignored(self, paths: Iterable[bytes]) -> set[bytes]:
        """The paths that the ignore files name, as they are now. Raises NoTree."""
        asked = b"\0".join(b"./" + path for path in paths)  # one that begins with a colon would mean something else
        if not asked:
            return set()
        output = await self.git("check-ignore", "--no-index", "-z", "--stdin", stdin=asked, fine=(0, 1))
        return {path.removeprefix(b"./") for path in output.split(b"\0") if path}

    async def keep(self, wanted: Mapping[str, str], dropped: Iterable[str]) -> None:
        """Point refs at trees, so that they are not pruned, and drop other refs. Raises NoTree."""
        lines = [f"update refs/turns/{name} {tree}" for name, tree in wanted.items()]
        lines += [f"delete refs/turns/{name}" for name in dropped]
        await self.git("update-ref", "--stdin", stdin="".join(f"{line}\n" for line in lines).encode())

    async def tidy(self) -> None:
        """Pack what is loose and drop what no turn needs any more. Raises NoTree."""
        await self.git("gc", "--quiet", "--prune=1.day.ago")

    async def is_readable(self) -> bool:
        """Whether the list of what was seen last can be read."""
        try:
            await self.git("ls-files", "--cached", "-z", most=1)
        except GitFailed:
            return False
        return True

    def forget_index(self) -> None:
        """Forget what was seen last, but not the trees."""
        self._tree = ""
        (self._folder / "index").unlink(missing_ok=True)

    def forget(self) -> None:
        """Start over, after something broke."""
        self._tree = ""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def git(
        self,
        *command: str,
        stdin: bytes | None = None,
        config: tuple[str, ...] = (),
        fine: tuple[int, ...] = (0,),
        ours: bool = True,
        most: int = 0,
    ) -> bytes:
        """Run git; what it printed, or the first `most` bytes. Raises GitFailed, OSError."""
        pipe = asyncio.subprocess.PIPE
        process = await self._spawn(
            *("git", *config, *command),
            cwd=self._workspace,
            env=self._environment | (self._ours if ours else {}),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL if most else pipe,
        )
        try:
            async with asyncio.timeout(GIVE_UP_S):
                if most:
                    output, errors = await _first_bytes(process, most), b""
                    if len(output) == most:
                        return output
                    await process.wait()
                else:
                    output, errors = await process.communicate(stdin)
        except TimeoutError:
            raise NoTree(f"git {command[0]} took too long") from None
        finally:
            await _end(process)
        if process.returncode not in fine:
            raise GitFailed(f"git {command[0]}: {errors.decode(errors='replace').strip()[-300:] or 'it failed'}")
        return output

    def _make(self) -> None:
        """Make the repository if there is none. A leftover lock is nobody's: a home has one sled."""
        for lock in ("index.lock", "packed-refs.lock"):
            (self._folder / lock).unlink(missing_ok=True)
        if (self._folder / "HEAD").exists():
            return
        for part in ("info", "objects", "refs"):
            (self._folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / "config").write_text(_CONFIG)
        (self._folder / "info" / "attributes").write_text(_ATTRIBUTES)
        (self._folder / "info" / "exclude").write_text(_EXCLUDE)
        (self._folder / "HEAD").write_text("ref: refs/heads/none\n")

    def _look(self, names: set[bytes]) -> _Look:
        """Sort what git listed: it reads files, and only names nested repositories."""
        look = _Look()
        root = os.fsencode(self._workspace)
        plain: dict[bytes, bool] = {b"": True}
        for name in names:
            path = root + b"/" + name
            try:
                found = os.lstat(path) if _has_plain_parents(root, name, plain) else None
            except OSError:
                found = None
            if name.endswith(b"/"):
                look.left_out.append(shown(name))
            elif found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                look.gone.append(name)
            elif found.st_size > MAX_FILE_BYTES or not (stat.S_ISLNK(found.st_mode) or os.access(path, os.R_OK)):
                look.left_out.append(shown(name))
                look.gone.append(name)
            else:
                look.new_bytes += found.st_size
                look.there.append(name)
        return look


class _Look:
    """What git listed, sorted."""

    def __init__(self) -> None:
        self.there: list[bytes] = []
        self.gone: list[bytes] = []
        self.left_out: list[str] = []
        self.new_bytes = 0


def shown(path: bytes) -> str:
    """A path for people: control characters and bytes that are not UTF-8 become escapes."""
    text = path.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _has_plain_parents(root: bytes, name: bytes, known: dict[bytes, bool]) -> bool:
    """Whether all parents of a path are real folders, and none is a link."""
    parent = name.rstrip(b"/").rpartition(b"/")[0]
    if parent not in known:
        known[parent] = _has_plain_parents(root, parent, known) and stat.S_ISDIR(os.lstat(root + b"/" + parent).st_mode)
    return known[parent]


async def _first_bytes(process: asyncio.subprocess.Process, most: int) -> bytes:
    """The beginning of what a process prints; whoever started the process ends it."""
    assert process.stdout is not None
    data = b""
    while len(data) < most and (chunk := await process.stdout.read(2**16)):
        data += chunk
    return data[:most]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Make sure that a process has ended, even if its caller was cancelled."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
