"""Bootstrap: from one line in chat to a project that answers.

`create` is the line of one `new project`::

    validate -> reserve (the conversation is switched; prompts wait) -> keys and folders
    -> with --git:  start on the base image -> hello -> clone, inside
    -> detect -> plan -> build -> start -> hello -> init -> SSH answers -> READY

Whatever fails or is killed on the way is undone, by the same code at once or at the next start: a row without
`ready_at` is a bootstrap that did not finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway import kill_points
from gateway.delivery import Notice
from gateway.errors import BuildFailed, HuskiesError, SledRefused, UserError, VersionMissing
from gateway.projects import folders, ssh
from gateway.projects.builds import Builds
from gateway.projects.containers import Containers
from gateway.projects.leftovers import Leftovers
from gateway.projects.places import check_name
from gateway.projects.recipes import Recipes, stored, wish
from gateway.projects.registry import Registry, Setup
from gateway.projects.releases import Releases
from gateway.projects.reservations import Request, Reservations
from gateway.store.projects import Project
from gateway.store.releases import By
from gateway.wire.git_url import GitUrl, check_git_url
from stacks.catalog import FALLBACK
from stacks.own import Own
from stacks.plan import Plan
from stacks.recipe import Recipe

log = logging.getLogger(__name__)

_JOB_WITHIN_S = 60.0
#: Seconds that a clone may take: large repositories over slow lines take that long, and progress is shown.
_CLONE_WITHIN_S = 3600.0
#: What a repository is fetched in, before anybody knows what it needs.
_BARE = Recipe(Plan(FALLBACK, "", "", ()))


@dataclass(frozen=True, slots=True)
class Created:
    """A project that is READY. `offered`: what its source wants to add, and no operator has confirmed yet."""

    project: Project
    recipe: Recipe
    offered: Own
    taken_up: bool
    #: Commits made there have an author.
    has_identity: bool


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """See the module."""

    registry: Registry
    reservations: Reservations
    containers: Containers
    builds: Builds
    leftovers: Leftovers
    recipes: Recipes
    releases: Releases
    setup: Setup

    async def create(self, request: Request, reserved: Callable[[], None], notice: Notice) -> Created:
        """Bootstrap a project. `reserved` is called once the name is taken and the conversation switched.

        Call `Projects.begin` when people have been told: what they wrote meanwhile waits for it.

        Raises:
            VersionMissing: as for a UserError; with its keys as `accept`, this would not have failed.
            UserError: nothing is left of the attempt, the name is free; the text says which step failed and why.
        """
        check_name(request.name)
        git = check_git_url(request.git) if request.git is not None else None
        async with self.registry.lock(request.name):
            if (own := await self._made_by(request)) is not None:
                return await self._created(own, own.revived)
            await self.reservations.undo_unfinished(request.name)
            made = await self.reservations.take(request, git)
            reserved()
            kill_points.reach("project.reserved")
            line = _Line(self, made.project, request, git, notice)
            try:
                project = await line.run()
            except Exception as error:  # whatever it is, nothing of the attempt may stay
                kept_log = await asyncio.to_thread(self._keep_build_log, made.project, error)
                here = request.conversation_id if request.switches else None
                undone = await self.reservations.undo(made.project, here, made.before)
                foreseen = isinstance(error, (HuskiesError, OSError))
                # The lines of a build that failed are in its log and in the reply.
                short = str(error).partition(" The last lines:")[0]
                log.warning("creating %s failed: %s", request.name, short, exc_info=None if foreseen else error)
                told = error if foreseen else "Something unexpected went wrong; see the gateway's log."
                if isinstance(error, VersionMissing):
                    raise VersionMissing(f"{told} {undone.told}.{undone.stopped.told}", keys=error.keys) from error
                raise UserError(
                    f"Creating {request.name} failed at this step: {line.step}. {told}{kept_log}\n{undone.told}. "
                    f"Fix that, then type `new project {request.name}` again.{undone.stopped.told}"
                ) from error
        kill_points.reach("project.ready")
        await self.releases.note(project, By("new project", request.by))
        await self.leftovers.after_change()
        return await self._created(project, made.taken_up, line.notes)

    async def _created(self, project: Project, taken_up: bool, notes: Sequence[str] = ()) -> Created:
        """What people are told about a project that is READY."""
        try:
            offered = await self.recipes.offered(project.path)
        except UserError as error:
            offered = Own(notes=(str(error),))
        except Exception:  # it is READY, and nothing in a source may keep people from being told so
            log.exception("what %s offers could not be read", project.name)
            offered = Own(notes=("what its source wants to add could not be read; see the gateway's log",))
        offered = replace(offered, notes=(*offered.notes, *notes))
        return Created(project, stored(project), offered, taken_up, bool(await self.setup.git_identity.find()))

    def _keep_build_log(self, project: Project, error: Exception) -> str:
        """Where to read the log of a build that failed, as its project goes; empty for anything else."""
        log_file = self.registry.paths(project).build_log
        if not isinstance(error, BuildFailed) or not log_file.is_file():
            return ""
        kept = self.setup.state_dir / ".logs" / f"build-{project.name}.log"
        with contextlib.suppress(OSError):
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(log_file, kept)
            return f"\nThe whole log: `{kept}`."
        return ""

    async def _made_by(self, request: Request) -> Project | None:
        """The project that this very request made before the gateway was killed, READY but not yet told of."""
        here = await self.registry.active_in(request.conversation_id)
        if not request.switches:
            here = next((project for project in self.registry.all() if project.name == request.name), None)
        if here is None or here.name != request.name or here.created_by != request.by:
            return None  # somebody else made it, or the same person from another room
        return here if here.ready_at is not None and here.created_at >= request.asked_at else None


class _Line:
    """One run of the line, from the reserved name to an SSH login. `step` is where it is; a failure names it."""

    def __init__(
        self, parts: Bootstrap, project: Project, request: Request, git: GitUrl | None, notice: Notice
    ) -> None:
        self._parts = parts
        self._project = project
        self._request = request
        self._git = git
        self._notice = notice
        self.step = "make its folders"
        #: What people should know, though nothing failed because of it.
        self.notes: list[str] = []
        self._told_of_clone: list[str] = []

    async def run(self) -> Project:
        """The project, READY. Raises HuskiesError, OSError."""
        project = self._project
        await self._notice.say(f"Creating {project.name} in {project.path} …")
        person = self._parts.reservations.setup.host_user
        if note := await asyncio.to_thread(folders.make_source, project.path, project.owner, person):
            self.notes.append(note)
        # What was given out before a deletion opens nothing now, even if that deletion was cut off.
        await asyncio.to_thread(ssh.forget_client_key, self._parts.registry.paths(project))
        await self._parts.containers.furnish(project)
        kill_points.reach("project.folder")
        if self._git is not None:
            await self._fetch(self._git)
        self.step = "choose its stack"
        plan = await self._parts.recipes.decide(project.path, wish(self._request.stack))
        await self._run_on_its_image(Recipe(plan, accepted=self._request.accept))
        self.step = "mark it ready"
        # Committed; but nothing is sent to it before `begin`, for people are told first.
        return await self._parts.reservations.keep(self._project)

    async def _fetch(self, git: GitUrl) -> None:
        """What a repository needs is known only once it is here, and it is fetched where its code may run."""
        self.step = "build the base image"
        self._project = await self._parts.builds.first(self._project, _BARE, self._notice.show)
        self.step = "start the container"
        await self._parts.containers.start(self._project)
        self.step = f"clone {git.url}"
        await self._clone(git)
        kill_points.reach("project.cloned")

    async def _clone(self, git: GitUrl) -> None:
        """Have the sled clone into the workspace. Raises SledError; UserError where somebody put files there."""
        await asyncio.to_thread(folders.check_empty, self._project.path)
        # From now on whatever is in it is the clone's, and goes with it.
        self._project = await self._parts.registry.change(self._project, git_url=git.url)
        arguments = {
            "url": git.url,
            "branch": git.branch,
            "submodules": "yes" if self._request.submodules else "no",
            "hosts": ",".join(sorted(self._parts.setup.git_hosts)),
        }
        call = self._parts.containers.call
        try:
            told = await call(self._project, "clone", arguments, _CLONE_WITHIN_S, self._notice.show)
        except SledRefused:  # the sled has removed what it had cloned, or had refused to begin
            await self._parts.registry.change(self._project, git_url="")
            raise
        self._told_of_clone = told.splitlines()
        self._notice.show("")

    async def _run_on_its_image(self, recipe: Recipe) -> None:
        self.step = "build the image"
        before = self._project.image
        self._project = await self._parts.builds.first(self._project, recipe, self._notice.show)
        kill_points.reach("project.built")
        self.step = "start the sled"
        if before not in ("", self._project.image):
            await self._parts.containers.take_down(self._project)
        await self._parts.containers.start(self._project)
        kill_points.reach("project.started")
        # The SSH server starts beside the sled; both are waited for at once.
        answering = asyncio.create_task(self._parts.containers.answers_ssh(self._project))
        try:
            self.step = "prepare the workspace"
            await self._init()
            kill_points.reach("project.prepared")
            self.step = "log in over SSH"
            await answering
            kill_points.reach("project.answered")
            recorded = await self._parts.builds.record(self._project, stored(self._project))
            self.notes = [*self._told_of_clone, *recorded]
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _init(self) -> None:
        """Have the sled prepare the workspace. Raises SledError."""
        identity = await self._parts.setup.git_identity.find()
        arguments = {
            "git": "no" if self._project.adopted else "yes",
            "branch": self._parts.setup.default_branch,
            "user_name": identity.name,
            "user_email": identity.email,
        }
        await self._parts.containers.call(self._project, "init", arguments, _JOB_WITHIN_S)
