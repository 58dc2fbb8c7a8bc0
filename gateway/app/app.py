"""The composition root: the only place that names concrete classes, and the order in which things start and end."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from commands.table import ALIASES, COMMANDS, worth_telling
from gateway.app.inspection import inspect
from gateway.app.platforms import PLATFORMS
from gateway.app.startup import agent_line, check, choose_engine, cli_socket, instance, lock_state
from gateway.asking import Answers, Questions
from gateway.chat import Transport
from gateway.chat.finding import Finding
from gateway.config import Access, Credentials, Secrets, Settings, build_inputs, git_identity
from gateway.config.log import blot_out
from gateway.config.secrets import ALL, secrets_file
from gateway.delivery import Fates, Files, Outbox
from gateway.engine import Engine
from gateway.errors import ConfigError, TransportRefused
from gateway.intake import Confirmations, Inbox, Parser, Router, Services
from gateway.projects import Places, Projects, Setup
from gateway.store import Store, sweep, usage
from gateway.turns import Dispatcher, Gate, Limits, RunSettings
from gateway.web import health, public_url, secrets_api
from gateway.web.local import LocalApi
from gateway.web.metrics import Metrics
from gateway.web.parts import Part, look
from gateway.web.webhooks import SERVER, Webhooks
from gateway.wire import Accounts, FileRoutes, GitProxy, Keys, ModelProxy, Pushes, Sleds
from stacks.images import BuildInputs
from transports.cli import Cli
from transports.console import Console

log = logging.getLogger(__name__)

#: Seconds that a gateway told to end waits for its replies to be sent.
DRAIN_S = 10.0
#: Seconds between two tries with an account that its platform refused.
_REFUSED_PAUSE_S = 60.0


def make_limits(settings: Settings) -> Limits:
    """The dispatcher's limits, from the configuration."""
    dispatcher, agent = settings.dispatcher, settings.agent
    return Limits(
        window_s=dispatcher.coalesce_window_ms / 1000,
        window_max_s=dispatcher.coalesce_max_ms / 1000,
        queue=dispatcher.queue_limit,
        mode=dispatcher.mode,
        runs_per_project=dispatcher.runs_per_project,
        runs=dispatcher.max_runs,
        silence_s=agent.silence_timeout_s,
        turn_s=agent.turn_limit_s,
        warm_s=agent.warm_s,
    )


@dataclass
class App:
    """A gateway, wired; `run` lives until it is told to end."""

    settings: Settings
    store: Store
    engine: Engine
    sleds: Sleds
    secrets: Secrets
    credentials: Credentials
    accounts: Accounts
    proxy: ModelProxy
    git_proxy: GitProxy
    outbox: Outbox
    fates: Fates
    projects: Projects
    dispatcher: Dispatcher
    questions: Questions
    gate: Gate
    files: Files
    file_routes: FileRoutes
    router: Router
    inbox: Inbox
    services: Services
    transports: dict[str, Transport]
    console: Console | None
    cli: Cli
    config_file: Path | None
    troubles: dict[str, str] = field(default_factory=dict)
    draining: bool = False
    #: Tells this process's answers from those of any other, see `public_url`.
    life: str = field(default_factory=public_url.new_life)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, end: asyncio.Event) -> None:
        """Start everything in the order in which each part needs the others; end it in reverse."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            stack.push_async_callback(self.engine.close)
            stack.push_async_callback(self.accounts.close)
            stack.push_async_callback(self.proxy.close)
            stack.push_async_callback(self.git_proxy.close)
            await self.sleds.start(self.dispatcher, self._wire_routes)
            stack.push_async_callback(self.sleds.stop)
            stack.push_async_callback(self.outbox.close)
            stack.push_async_callback(self.dispatcher.close)
            stack.push_async_callback(self.questions.shut)
            stack.callback(self.gate.close)
            stack.push_async_callback(self.router.close)
            await self._take_up()
            await stack.enter_async_context(self._serve_http())
            reconciling = self.projects.reconcile_forever(self.settings.engine.reconcile_s)
            sweeping = sweep.sweep_forever(self.store, self.settings.gateway.keep_days, self.files.sweep)
            work: list[asyncio.Task[Any]] = [asyncio.create_task(coroutine) for coroutine in (reconciling, sweeping)]
            work += [asyncio.create_task(self._receive(t)) for t in self.transports.values()]
            stack.push_async_callback(_cancel, work)
            self.started.set()
            await self._until_end(end)

    def _wire_routes(self, authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
        """What a project's wire carries beside its sled's frames."""
        proxies = [*self.proxy.routes(authenticate), *self.git_proxy.routes(authenticate)]
        return [*proxies, *self.file_routes.routes(authenticate)]

    def _is_project(self, name: str) -> bool:
        return any(project.name == name for project in self.projects.all())

    async def parts(self) -> list[Part]:
        """How everything is."""
        chosen = self.credentials.chosen(ALL)
        refused = self.proxy.key_problem if chosen == "claude" else ""
        agent = Part("agent", not refused, refused or chosen)
        base = self.projects.recipes.base
        return await look(
            self.store, self.engine, self.transports, self.troubles, agent, base=base, draining=self.draining
        )

    async def checks(self) -> list[Finding]:
        """What the platforms say now."""
        return await inspect(self.settings, self.life)

    async def _take_up(self) -> None:
        """What another process left: projects first, then runs, then commands and messages that wait."""
        await self.store.write(usage.doubt_open_turns)
        await self.projects.recover()
        await self.gate.recover()
        await self.questions.recover(self.gate.taken_up)
        await self.dispatcher.recover()
        for project_id in self.dispatcher.projects_with_work():
            project = self.projects.by_id(project_id)
            if project is None or project.desired != "up":  # killed in the middle of a `down` or `delete`
                for work in self.dispatcher.interrupt_all(project_id):
                    await work
            if project is None:
                told = "Its project is gone."
                await self.dispatcher.stop(told, project_id=project_id, conversations=[], told=[])
        await self.router.recover()
        await self.inbox.recover()
        await self.outbox.recover()

    async def _receive(self, transport: Transport) -> None:
        """Run one transport for ever; its trouble is not the others'."""
        while True:
            try:
                await transport.run(self.inbox.of(transport.name))
                return
            except TransportRefused as error:
                self.troubles[transport.name] = str(error)
                log.error("%s: %s", transport.name, error)
            except Exception as error:
                self.troubles[transport.name] = f"{type(error).__name__}: {error}"
                log.exception("%s ended; starting it again", transport.name)
            await asyncio.sleep(_REFUSED_PAUSE_S)

    async def _until_end(self, end: asyncio.Event) -> None:
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(end.wait())]
        if self.console is not None:
            waits.append(asyncio.create_task(self._console_ended()))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(waits)
        self.draining = True
        if not await self.outbox.drain(DRAIN_S):
            log.warning("some replies are not sent yet; the next start sends them")

    async def _console_ended(self) -> None:
        assert self.console is not None
        await self.console.ended()
        if not self.console.capabilities.edits:
            await self.fates.all_settled()  # a pipe: what was asked is answered before we go

    @contextlib.asynccontextmanager
    async def _serve_http(self) -> AsyncIterator[None]:
        host, _, port = self.settings.gateway.listen.rpartition(":")
        metrics = Metrics(
            store=self.store,
            inbox=self.inbox,
            outbox=self.outbox,
            fates=self.fates,
            dispatcher=self.dispatcher,
            projects=self.projects,
        )
        public = web.Application(client_max_size=2**20)
        public.router.add_routes(health.routes(self.parts, metrics.collect, self.life))
        for transport in self.transports.values():
            if isinstance(transport, Webhooks):
                public.router.add_routes(transport.routes())
        local = web.Application(client_max_size=2**24)
        api = LocalApi(self.services, self.inbox, self.fates, self.cli.message, parts=self.parts, checks=self.checks)
        local.router.add_routes([*api.routes(), *secrets_api.routes(self.secrets, self._is_project)])
        runners = [
            web.AppRunner(public, access_log=None, shutdown_timeout=1.0, **SERVER),
            web.AppRunner(local, access_log=None, shutdown_timeout=1.0),
        ]
        for runner in runners:
            await runner.setup()
        try:
            try:
                await web.TCPSite(runners[0], host.strip("[]"), int(port)).start()
            except OSError as error:
                raise ConfigError(
                    f"gateway.listen {self.settings.gateway.listen} cannot be used: {error.strerror}; "
                    "choose another address, or end what uses it"
                ) from error
            socket = cli_socket(self.settings.gateway.state_dir)
            await web.UnixSite(runners[1], str(socket)).start()
            socket.chmod(0o600)
            yield
        finally:
            for runner in runners:
                await runner.cleanup()
            cli_socket(self.settings.gateway.state_dir).unlink(missing_ok=True)


async def build(
    settings: Settings,
    config_file: Path | None,
    *,
    pipe: bool = False,
    terminal: bool = False,
    engine: Engine | None = None,
    more_transports: Mapping[str, Transport] | None = None,
) -> App:
    """Open the state and wire everything. Raises ConfigError, StateError."""
    check(settings)
    inputs = build_inputs.read(settings.build)
    state_dir = settings.gateway.state_dir
    store = await Store.open(state_dir / ".gateway" / "huskies.db")
    user = getpass.getuser()
    cli = Cli(user)
    transports: dict[str, Transport] = {"cli": cli, **(more_transports or {})}
    console: Console | None = None
    if settings.transports.console.enabled and (pipe or terminal):
        history = state_dir / ".gateway" / "history"
        console = Console(user, pipe=pipe, history=history)
        transports["console"] = console
    local = {cli.sender, f"console:{user}"}
    access = Access(settings.access.operators, settings.access.members, local)
    transports |= {name: PLATFORMS[name].make(settings, access) for name in settings.remote_transports}
    outbox = Outbox(store, transports)
    fates = Fates(outbox)
    git_proxy = GitProxy({host: token.get_secret_value() for host, token in settings.git.tokens.items()})
    sleds = Sleds(git_proxy.hosts)
    engine = engine or await choose_engine(settings, store)
    secrets = Secrets(secrets_file(state_dir))
    _hide(secrets)
    credentials = Credentials(settings.agent, secrets)
    setup = _setup(settings, config_file, inputs, git_proxy.hosts, oauth=credentials.oauth, forget=secrets.forget)
    projects = Projects(store, engine, sleds, setup)

    def run_settings(project_id: int) -> RunSettings:
        project = projects.by_id(project_id)
        return RunSettings(
            project=project.name if project else "",
            agent=(project.agent if project else "") or credentials.chosen(project.name if project else ALL),
            permissions=project.permissions if project else "ask",
            isolated=engine.isolated,
            model=(project.model if project else "") or settings.agent.model,
        )

    files = Files(state_dir / ".gateway" / "files", store, outbox)
    questions = Questions(
        store, outbox, projects.send, settings.people, settings.agent.permission_timeout_s, files.keep
    )
    gate = Gate(store, questions, settings.agent.budget_usd_per_project_day)
    answers = Answers(questions, outbox, settings.people)
    parser = Parser(COMMANDS, ALIASES)
    dispatcher = Dispatcher(
        store=store,
        outbox=outbox,
        fates=fates,
        wire=projects,
        limits=make_limits(settings),
        run_settings=run_settings,
        people=settings.people,
        questions=questions,
        gate=gate,
        take_file=files.take,
        abridge=files.abridge,
        worth_telling=lambda text: worth_telling(parser, text, projects.names()),
    )
    projects.attach(dispatcher)
    pushes = Pushes(questions, dispatcher.running_in, lambda project_id: run_settings(project_id).permissions)
    git_proxy.refusal = pushes.refusal
    router = Router(
        store=store,
        outbox=outbox,
        fates=fates,
        access=access,
        dispatcher=dispatcher,
        projects=projects,
        parser=parser,
        answers=answers,
    )
    inbox = Inbox(store, access, router.route, dispatcher.withdrawn, outbox.moved)
    services = Services(
        settings=settings,
        store=store,
        access=access,
        outbox=outbox,
        dispatcher=dispatcher,
        questions=questions,
        answers=answers,
        gate=gate,
        files=files,
        projects=projects,
        confirmations=Confirmations(),
        transports=transports,
        commands=COMMANDS,
        agent_line=lambda: agent_line(settings, credentials.chosen(ALL)),
    )
    router.attach(services)
    accounts = Accounts(store)

    def refusal(project_id: int) -> str:
        return keys.refusal(str(project_id)) if run_settings(project_id).agent == "claude" else ""

    gate.refusal = refusal
    keys = _keys(projects, credentials, secrets, dispatcher=dispatcher, gate=gate)
    proxy = ModelProxy(settings.agent.api_base_url, keys, accounts.take)
    return App(
        settings=settings,
        store=store,
        engine=engine,
        sleds=sleds,
        secrets=secrets,
        credentials=credentials,
        accounts=accounts,
        proxy=proxy,
        git_proxy=git_proxy,
        outbox=outbox,
        fates=fates,
        projects=projects,
        dispatcher=dispatcher,
        questions=questions,
        gate=gate,
        files=files,
        file_routes=FileRoutes(files.folder, store, transports),
        router=router,
        inbox=inbox,
        services=services,
        transports=transports,
        console=console,
        cli=cli,
        config_file=config_file,
    )


def _keys(
    projects: Projects, credentials: Credentials, secrets: Secrets, *, dispatcher: Dispatcher, gate: Gate
) -> Keys:
    """How the provider takes each key; whoever waits for one hears of it."""

    def works() -> None:
        log.warning("the model key works again")
        dispatcher.key_changed()

    keys = Keys(
        lambda project: credentials.of(_name_of(projects, project)),
        on_problem=log.error,
        on_works=works,
        on_limit=lambda _, until: gate.limit(until),
    )
    secrets.listeners.append(lambda: keys.changed(credentials.in_force()))
    secrets.listeners.append(dispatcher.key_changed)
    gate.limit_of = lambda project_id: keys.limit_of(str(project_id))
    return keys


def _name_of(projects: Projects, project: str) -> str:
    """The name of the project with this id, as text; what is none has what all have."""
    found = projects.by_id(int(project)) if project.isdecimal() else None
    return found.name if found else ALL


def _hide(secrets: Secrets) -> None:
    """Keep what is stored out of the log, now and after each change."""

    def hide() -> None:
        blot_out(secrets.values())

    hide()
    secrets.listeners.append(hide)


def _setup(
    settings: Settings,
    config_file: Path | None,
    inputs: BuildInputs,
    git_hosts: frozenset[str],
    *,
    oauth: Callable[[str], bool],
    forget: Callable[[str], None],
) -> Setup:
    state_dir = settings.gateway.state_dir
    forbidden = [state_dir, *([config_file] if config_file else [])]
    return Setup(
        state_dir=state_dir,
        places=Places(settings.projects.root, settings.projects.allowed_roots, forbidden),
        permissions=settings.agent.permissions,
        oauth=oauth,
        forget=forget,
        git_identity=git_identity.finder(settings.git),
        default_branch=settings.git.default_branch,
        git_hosts=git_hosts,
        instance=instance(state_dir),
        inputs=inputs,
        ssh_ports=settings.projects.port_range,
    )


async def serve(settings: Settings, config_file: Path | None, *, pipe: bool, terminal: bool) -> None:
    """Run a gateway until a signal, or the end of its console. A second signal ends the process at once."""
    os.umask(0o077)
    began = time.monotonic()
    with lock_state(settings.gateway.state_dir):
        app = await build(settings, config_file, pipe=pipe, terminal=terminal)
        end = asyncio.Event()

        def told() -> None:
            if end.is_set():
                os._exit(1)
            end.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told)
        announcing = asyncio.create_task(_announce(app, began))
        try:
            await app.run(end)
        finally:
            announcing.cancel()


async def _announce(app: App, began: float) -> None:
    await app.started.wait()
    settings = app.settings
    log.info(
        "huskies is ready after %.2f s on http://%s, state in %s, engine %s%s. %s",
        time.monotonic() - began,
        settings.gateway.listen,
        settings.gateway.state_dir,
        app.engine.kind,
        "" if app.engine.isolated else " (no isolation)",
        agent_line(settings, app.credentials.chosen(ALL)),
    )


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
