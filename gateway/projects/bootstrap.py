"""Projects: bootstrap, from one line in chat to a place of one's own that answers.

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
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway import kill_points
from gateway.delivery import Notice
from gateway.errors import BuildFailed, EngineError, HuskiesError, SledRefused, UserError, VersionMissing
from gateway.projects import folders, ssh
from gateway.projects.places import Source, check_name, choose_owner
from gateway.projects.ports import listens_nowhere
from gateway.projects.rebuild import Rebuilds, recipe_columns
from gateway.projects.recipes import stored, wish
from gateway.store import Connection, conversations
from gateway.store import projects as rows
from gateway.store.projects import Project
from gateway.turns import Stopped
from gateway.wire.git_url import GitUrl, check_git_url
from stacks.catalog import FALLBACK
from stacks.own import Own
from stacks.plan import Plan
from stacks.recipe import Recipe

log = logging.getLogger(__name__)

_JOB_WITHIN_S = 60.0
#: Seconds that a clone may take: large repositories over slow lines do take long, and its progress is shown.
_CLONE_WITHIN_S = 3600.0
#: What a repository is fetched in, before anybody knows what it needs.
_BARE = Recipe(Plan(FALLBACK, "", "", ()))


@dataclass(frozen=True, slots=True)
class Request:
    """One `new project`."""

    name: str
    by: str
    conversation_id: int
    asked_at: float
    stack: str | None = None
    path: str | None = None
    git: str | None = None
    adopt: bool = False
    #: Versions that the source may ask for in vain, as `stack version`.
    accept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """A project that is READY. `offered`: what its source wants to add, and no operator has confirmed yet."""

    project: Project
    recipe: Recipe
    offered: Own
    taken_up: bool
    #: Commits made there bear somebody's name.
    has_identity: bool


@dataclass(frozen=True, slots=True)
class _Reserved:
    project: Project
    taken_up: bool
    #: The project that was active in the conversation before.
    before: int | None


@dataclass(frozen=True, slots=True)
class _Undone:
    stopped: Stopped
    #: What people are told of it, in a sentence.
    told: str


class Projects(Rebuilds):
    """Makes projects; see `Lifecycle` and `Rebuilds` for the rest of their life."""

    async def create(self, request: Request, reserved: Callable[[], None], notice: Notice) -> Created:
        """Bootstrap a project. `reserved` is called once the name is taken and the conversation switched.

        Call `begin` when people have been told: what they wrote meanwhile waits for it.

        Raises:
            VersionMissing: as for a UserError; and asked again with its keys as `accept`, it would not have failed so.
            UserError: nothing is left of the attempt, the name is free; the text says which step failed and why.
        """
        check_name(request.name)
        git = check_git_url(request.git) if request.git is not None else None
        async with self._lock(request.name):
            if (own := self._made_by(request)) is not None:
                return await self._created(own, own.revived)
            await self._undo_unfinished(request.name)
            async with self._reserving:  # two names must not be given one folder, nor one port
                made = await self._reserve(request, git)
            reserved()
            kill_points.reach("project.reserved")
            bootstrap = _Bootstrap(self, made.project, request, git, notice)
            try:
                project = await bootstrap.run()
            except Exception as error:  # whatever it is, nothing of the attempt may stay
                kept_log = await asyncio.to_thread(self._keep_build_log, made.project, error)
                undone = await self._undo(made.project, request.conversation_id, made.before)
                foreseen = isinstance(error, (HuskiesError, OSError))
                log.warning("creating %s failed: %s", request.name, error, exc_info=None if foreseen else error)
                told = error if foreseen else "Something went wrong that nobody foresaw; the gateway's log has it."
                if isinstance(error, VersionMissing):
                    raise VersionMissing(f"{told} {undone.told}.{undone.stopped.told}", keys=error.keys) from error
                raise UserError(
                    f"Creating {request.name} failed at: {bootstrap.step}. {told}{kept_log}\n{undone.told}; "
                    f"put that right and type `new project {request.name}` again.{undone.stopped.told}"
                ) from error
        kill_points.reach("project.ready")
        await self._after_change()
        return await self._created(project, made.taken_up, bootstrap.notes)

    async def _created(self, project: Project, taken_up: bool, notes: Sequence[str] = ()) -> Created:
        """What people are told of a project that is READY."""
        try:
            offered = await self.recipes.offered(project.path)
        except UserError as error:
            offered = Own(notes=(str(error),))
        except Exception:  # it is READY, and nothing that a source holds may keep people from being told so
            log.exception("what %s offers could not be read", project.name)
            offered = Own(notes=("what its source wants to add could not be read; the gateway's log has it",))
        offered = replace(offered, notes=(*offered.notes, *notes))
        return Created(project, stored(project), offered, taken_up, all(await self._setup.git_identity()))

    def _keep_build_log(self, project: Project, error: Exception) -> str:
        """Where the log of a build that failed is to be read, since its project goes; empty for anything else."""
        log_file = self.paths(project).build_log
        if not isinstance(error, BuildFailed) or not log_file.is_file():
            return ""
        kept = self._setup.state_dir / ".logs" / f"build-{project.name}.log"
        with contextlib.suppress(OSError):
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(log_file, kept)
            return f"\nThe whole log: `{kept}`. Behind a proxy or a mirror, set `[build]` in the configuration."
        return ""

    def _made_by(self, request: Request) -> Project | None:
        """The project that this very request made before the gateway was killed, READY but not yet told of."""
        for project in self._living.values():
            same = project.name == request.name and project.created_by == request.by
            if same and project.ready_at is not None and project.created_at >= request.asked_at:
                return project
        return None

    # --- reserve -----------------------------------------------------------------------------------------------------

    async def _reserve(self, request: Request, git: GitUrl | None) -> _Reserved:
        self.recipes.check_stack(request.stack, images=self._engine.isolated)
        if request.name in self.names():
            raise UserError(
                f"There is a project {request.name} already. `switch {request.name}` goes there, "
                "or choose another name."
            )
        grave = await self._store.read(lambda c: rows.by_name(c, request.name))
        source, taken_up = await asyncio.to_thread(self._choose_source, request, grave)
        if git is not None and source.exists:
            folders.check_empty(source.path)
        if grave is not None and grave.contained and not self._engine.isolated:
            raise UserError(
                f"{request.name} lived in a container, and what its agents wrote into its home does not run without "
                "one. Start Docker, then the gateway again; or choose another name."
            )
        owner, port = None, None
        if self._engine.isolated:
            owner = await asyncio.to_thread(choose_owner, source)
            port = await self._port_of(grave)
        token = secrets.token_urlsafe(32)

        def unit(connection: Connection) -> tuple[Project, int | None]:
            project = rows.reserve(
                connection,
                name=request.name,
                path=source.path,
                adopted=source.adopted,
                made_source=not source.exists,
                wanted=wish(request.stack),
                token=token,
                permissions=self._setup.permissions,
                created_by=request.by,
                owner=owner,
                ssh_port=port,
            )
            before = conversations.by_id(connection, request.conversation_id).project_id
            conversations.switch(connection, request.conversation_id, project.id)
            return project, before

        try:
            project, before = await self._store.write(unit)
        except rows.Taken:
            raise UserError(f"There is a project {request.name} already.") from None
        self._living[project.id] = project
        return _Reserved(project, taken_up, before)

    async def _port_of(self, grave: Project | None) -> int:
        """The port that a tombstone kept, if nobody has it by now; else the next. Raises UserError."""
        if grave is not None and grave.ssh_port is not None:
            if await asyncio.to_thread(listens_nowhere, grave.ssh_port):
                return grave.ssh_port
            log.warning("port %s of %s is another program's by now", grave.ssh_port, grave.name)
        return await self._free_port()

    def _choose_source(self, request: Request, grave: Project | None) -> tuple[Source, bool]:
        """Where the project's files are to be, and whether they are what `delete` kept. Raises UserError."""
        places = self._setup.places
        taken = [project.path for project in self._living.values()]
        if grave is None or request.path is not None or not grave.path.is_dir():
            return places.choose(request.name, request.path, adopt=request.adopt, taken=taken), False
        # What `delete` kept is taken up again: source, home and history.
        kept = places.choose(request.name, str(grave.path), adopt=True, taken=taken)
        if kept.path != grave.path:
            raise UserError(f"{grave.path} has become a link; choose a folder with --path.")
        return Source(grave.path, grave.adopted, exists=True), True

    # --- undo --------------------------------------------------------------------------------------------------------

    async def _undo(self, project: Project, here: int | None = None, before: int | None = None) -> _Undone:
        """Remove what a bootstrap made. A project that was taken up again becomes the tombstone that it was.

        Conversation `here`, which asked for it and is told, has project `before` active again, unless it or its people
        have gone elsewhere meanwhile.
        """
        told = "Nothing was left behind"
        with self._ended_here(project):
            project = self._living.pop(project.id, project)
            try:
                await self._take_down(project)
            except EngineError as error:  # it is removed as belonging to nobody, once the engine answers
                log.error("%s is not down yet: %s", project.name, error)
                told = "Its container goes as soon as the engine removes it, nothing else was left behind"
                await self._sleds.close(self.paths(project).socket)
        stopped = await self._stop_runs(project, "The project could not be created.", here)

        def unit(connection: Connection) -> None:
            still_here = here is not None and conversations.by_id(connection, here).project_id == project.id
            if project.revived:
                rows.rebury(connection, project.id)
            else:
                rows.erase(connection, project.id)
            if here is not None and still_here and before in self._living:
                conversations.switch(connection, here, before)

        try:
            await self._store.write(unit)
        finally:
            await asyncio.to_thread(self._unmake, project)
            await self._after_change()
        return _Undone(stopped, told)

    def _unmake(self, project: Project) -> None:
        """Remove the files that a bootstrap made; those that a tombstone kept stay."""
        folders.unmake_source(project)
        if project.revived:
            ssh.forget_client_key(self.paths(project))
        else:
            folders.remove(self.paths(project).folder)

    async def _undo_unfinished(self, name: str) -> None:
        """Undo a bootstrap of that name which no process is at any more. Its lock is held."""
        # As it is stored: one that is READY may not have been told of yet.
        found = await self._store.read(lambda c: rows.by_name(c, name))
        if found is not None and found.id in self._living and found.ready_at is None:
            log.warning("undoing the unfinished bootstrap of %s", name)
            await self._undo(found)

    async def _finish(self, project: Project) -> None:
        """See `Lifecycle`; also a bootstrap that another process was killed in."""
        if project.ready_at is None and project.desired != "deleted":
            async with self._lock(project.name):
                await self._undo_unfinished(project.name)
        else:
            await super()._finish(project)

    # --- at start-up -------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Load the projects; what should run is started by `reconcile_forever`."""
        for project in await self._store.read(rows.all_projects):
            if project.desired != "deleted":
                self._living[project.id] = project

    # --- what a bootstrap is made of ---------------------------------------------------------------------------------

    async def _build(self, project: Project, recipe: Recipe, notice: Notice) -> Project:
        """Have the image of a recipe, and the project on it. Raises EngineError, UserError."""
        plan = self.recipes.image(recipe)
        with self._keeping(plan):
            prepared = await self._engine.prepare(self.spec(project), plan, notice.show)
            notice.show("")
            values = recipe_columns(self.settled(recipe, plan, prepared.told), plan)
            if not self._engine.isolated:
                values |= {"image": "", "layers": ""}
            return await self._change(project, **values)

    async def _clone(self, project: Project, git: GitUrl, notice: Notice) -> Project:
        """Have the sled clone into the workspace. Raises SledError; UserError where somebody put files there."""
        await asyncio.to_thread(folders.check_empty, project.path)
        # From now on whatever is in it is the clone's, and goes with it.
        project = await self._change(project, git_url=git.url)
        arguments = {"url": git.url, "proxied": "yes" if git.host in self._setup.git_hosts else "no"}
        try:
            await self._call(project, "clone", arguments, _CLONE_WITHIN_S, notice.show)
        except SledRefused:  # the sled has removed what it had cloned, or had refused to begin
            await self._change(project, git_url="")
            raise
        notice.show("")
        return project

    async def _init(self, project: Project) -> None:
        """Have the sled prepare the workspace. Raises SledError."""
        user_name, user_email = await self._setup.git_identity()
        arguments = {
            "git": "no" if project.adopted else "yes",
            "branch": self._setup.default_branch,
            "user_name": user_name,
            "user_email": user_email,
        }
        await self._call(project, "init", arguments, _JOB_WITHIN_S)


class _Bootstrap:
    """One run of the line, from the reserved name to READY. `step` is where it is; a failure is told with it."""

    def __init__(
        self, projects: Projects, project: Project, request: Request, git: GitUrl | None, notice: Notice
    ) -> None:
        self._projects = projects
        self._project = project
        self._request = request
        self._git = git
        self._notice = notice
        self.step = "make its folders"
        #: What people should know, and nothing failed of.
        self.notes: list[str] = []

    async def run(self) -> Project:
        """Raises HuskiesError, OSError."""
        projects, project = self._projects, self._project
        await self._notice.say(f"Creating {project.name} in {project.path} …")
        await asyncio.to_thread(folders.make_source, project.path, project.owner)
        # What was given out before a deletion opens nothing, also if that deletion was cut off.
        await asyncio.to_thread(ssh.forget_client_key, projects.paths(project))
        await projects._furnish(project)
        kill_points.reach("project.folder")
        if self._git is not None:
            await self._fetch(self._git)
        self.step = "choose its stack"
        plan = await projects.recipes.decide(project.path, wish(self._request.stack))
        await self._run_on_its_image(Recipe(plan, accepted=self._request.accept))
        self.step = "mark it ready"
        # Committed; but nothing is sent to it before `begin`, for people are told first.
        project_id = project.id
        return await projects._store.write(lambda c: rows.change(c, project_id, ready_at=time.time()))

    async def _fetch(self, git: GitUrl) -> None:
        """What a repository needs is not known before it is here, and it is fetched where its code may run."""
        self.step = "build the base image"
        self._project = await self._projects._build(self._project, _BARE, self._notice)
        self.step = "start the container"
        await self._projects._start(self._project)
        self.step = f"clone {git.url}"
        self._project = await self._projects._clone(self._project, git, self._notice)
        kill_points.reach("project.cloned")

    async def _run_on_its_image(self, recipe: Recipe) -> None:
        projects = self._projects
        self.step = "build the image"
        before = self._project.image
        self._project = await projects._build(self._project, recipe, self._notice)
        kill_points.reach("project.built")
        self.step = "start the sled"
        if before not in ("", self._project.image):
            await projects._take_down(self._project)
        await projects._start(self._project)
        kill_points.reach("project.started")
        # The SSH server starts beside the sled; both are waited for at once.
        answering = asyncio.create_task(projects._answers_ssh(self._project))
        try:
            self.step = "prepare the workspace"
            await projects._init(self._project)
            kill_points.reach("project.prepared")
            self.step = "log in over SSH"
            await answering
            kill_points.reach("project.answered")
            self.notes = await projects.record(self._project, stored(self._project))
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
