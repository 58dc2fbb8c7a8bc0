"""A gateway: the order in which its parts start and end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway.app.inspection import inspect
from gateway.asking import Questions
from gateway.chat import Transport
from gateway.chat.finding import Finding, hint, ok
from gateway.config import Credentials, Secrets, Settings
from gateway.config.host_network import Found
from gateway.config.secrets import ALL
from gateway.config.state_dir import cli_socket
from gateway.delivery import Fates, Files, Outbox
from gateway.engine import Engine
from gateway.errors import StateError, TransportRefused
from gateway.hive import Door, Notes, Powers, Schedules
from gateway.hive.calls import TRANSPORT as AGENTS
from gateway.intake import Inbox, Router, Services
from gateway.projects import Projects
from gateway.store import Store, audit, messages, sweep, usage
from gateway.turns import Admission, CallGate, Dispatcher
from gateway.web import health, public_url, secrets_api
from gateway.web.changes import Changes
from gateway.web.local import LocalApi
from gateway.web.metrics import Metrics
from gateway.web.page import Page
from gateway.web.parts import Part, look
from gateway.web.place import Place
from gateway.web.servers import Servers
from gateway.web.webhooks import Webhooks
from gateway.wire import Accounts, FileRoutes, GitProxy, McpProxy, ModelProxy, SecretUses, Sleds
from transports.cli import Cli
from transports.web import Web

if TYPE_CHECKING:
    from transports.console import Console

log = logging.getLogger(__name__)

#: Seconds that a gateway told to end waits for its replies to be sent.
DRAIN_S = 10.0
#: Seconds until a part that ended is started again: a transport whose account was refused, or a defect.
_PAUSE_S = 60.0


@dataclass
class App:
    """A gateway, wired by `build`; `run` lives until it is told to end."""

    settings: Settings
    host: Found
    store: Store
    engine: Engine
    sleds: Sleds
    secrets: Secrets
    credentials: Credentials
    accounts: Accounts
    proxy: ModelProxy
    gate: CallGate
    git_proxy: GitProxy
    mcp_proxy: McpProxy
    uses: SecretUses
    outbox: Outbox
    fates: Fates
    projects: Projects
    dispatcher: Dispatcher
    questions: Questions
    admission: Admission
    files: Files
    file_routes: FileRoutes
    door: Door
    powers: Powers
    schedules: Schedules
    notes: Notes
    router: Router
    inbox: Inbox
    services: Services
    place: Place
    changes: Changes
    transports: dict[str, Transport]
    console: Console | None
    cli: Cli
    web_chat: Web
    #: Why a part ended, until it is at work again.
    troubles: dict[str, str] = field(default_factory=dict)
    draining: bool = False
    #: Tells this process's answers from those of any other, see `public_url`.
    life: str = field(default_factory=public_url.new_life)
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, end: asyncio.Event) -> None:
        """Start everything in the order in which each part needs the others; end it in reverse.

        Raises StateError: the state cannot be written any more, and never will be by this process.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            stack.push_async_callback(self.engine.close)
            stack.push_async_callback(self.accounts.close)
            stack.push_async_callback(self.proxy.close)
            stack.push_async_callback(self.git_proxy.close)
            stack.push_async_callback(self.mcp_proxy.close)
            stack.push_async_callback(self.uses.close)
            await self.sleds.start(self.dispatcher, self._wire_routes, self.door.on_command)
            stack.push_async_callback(self.sleds.stop)
            stack.push_async_callback(self.outbox.close)
            stack.push_async_callback(self.dispatcher.close)
            stack.push_async_callback(self.questions.shut)
            stack.push_async_callback(self.admission.close)
            stack.push_async_callback(self.router.close)
            stack.push_async_callback(self.schedules.close)
            stack.push_async_callback(self.notes.close)
            await self._take_up()
            await stack.enter_async_context(self._servers().serving())
            loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
                "projects": lambda: self.projects.reconcile_forever(self.settings.engine.reconcile_s),
                "sweep": lambda: sweep.sweep_forever(self.store, self.settings.gateway.keep_days, self.files.sweep),
                **{name: partial(t.run, self.inbox.of(name)) for name, t in self.transports.items()},
            }
            work = [asyncio.create_task(self._keep_going(name, loop)) for name, loop in loops.items()]
            stack.push_async_callback(_cancel, work)
            self.started.set()
            await self._until_end(end)

    async def parts(self) -> list[Part]:
        """How everything is."""
        chosen = self.credentials.chosen(ALL)
        refused = self.proxy.key_problem if chosen == "claude" else ""
        agent = Part("agent", not refused, refused or chosen)
        turns = Part("turns", not self.dispatcher.problem, self.dispatcher.problem or "ok")
        for name, transport in self.transports.items():
            if transport.serving:
                self.troubles.pop(name, None)
        loops = [Part(name, False, why) for name, why in self.troubles.items() if name not in self.transports]
        base = self.projects.recipes.base
        # Agents come by the wire, not from a platform that could be away; and `agent` is what answers.
        platforms = {name: transport for name, transport in self.transports.items() if name != AGENTS}
        return await look(
            self.store,
            self.engine,
            platforms,
            self.troubles,
            [turns, agent, *loops],
            base=base,
            draining=self.draining,
        )

    def wrong(self) -> list[str]:
        """What is known to be wrong now, without a look at anything: for the page of operators."""
        platforms = {name: transport for name, transport in self.transports.items() if name != AGENTS}
        away = [
            f"{name}: {self.troubles.get(name) or 'not connected'}"
            for name, transport in platforms.items()
            if not transport.serving
        ]
        key = self.proxy.key_problem if self.credentials.chosen(ALL) == "claude" else ""
        state = f"the state cannot be written: {self.store.problem}" if self.store.problem else ""
        loops = [f"{name}: {why}" for name, why in self.troubles.items() if name not in self.transports]
        return [one for one in (state, key, self.dispatcher.problem, *away, *loops) if one]

    async def checks(self) -> list[Finding]:
        """What the platforms say now."""
        found, exposed = await asyncio.gather(inspect(self.settings, self.life), self.projects.exposed())
        host = ok("build", f"as on this host: {'; '.join(self.host.told)}") if self.host.told else None
        try:
            held = await self._of_conversations()
        except StateError:
            held = []  # the line about the state says why
        return [*found, *exposed, *held, *([host] if host else [])]

    async def _of_conversations(self) -> list[Finding]:
        """What waits, and who has never written. Raises StateError."""
        held = [
            hint(conversation.transport, f"{waiting} messages wait for {conversation}: {why}")
            for conversation, why, waiting in await self.outbox.held()
        ]
        seen = await self.store.read(messages.senders)
        listed = dict.fromkeys((*self.settings.access.operators, *self.settings.access.members))
        remote = set(self.settings.remote_transports)
        silent = [one for one in listed if one.partition(":")[0] in remote and one not in seen]
        if silent:
            told = "has never written: is that the right account?" if len(silent) == 1 else "have never written"
            held.append(hint("access", f"{', '.join(silent)} {told}"))
        return held

    async def _note_secret(self, scope: str, what: str) -> None:
        """A secret was set or removed on this host: by whoever may use the gateway's socket."""
        of = "" if scope == ALL else scope
        await self.store.write(lambda c: audit.add(c, "secret", self.cli.sender, what, project=of))

    def _is_project(self, name: str) -> bool:
        return name in self.projects.names()

    # --- start -------------------------------------------------------------------------------------------------------

    async def _take_up(self) -> None:
        """What another process left: projects first, then runs, then commands and messages that wait."""
        await self.store.write(usage.doubt_open_turns)
        await self.powers.recover()
        await self.projects.recover()
        await self.projects.releases.recover()
        await self.services.leads.recover(self.settings.gateway.lead)
        await self.admission.recover(self.dispatcher.refuse)
        await self.schedules.recover()
        await self.notes.recover()
        await self.services.logins.recover()
        await self.questions.recover(self.admission.taken_up)
        await self.dispatcher.recover()
        self.gate.ready.set()
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
        await self.schedules.begin()
        await self.outbox.recover()

    def _wire_routes(self, authenticate: Callable[[web.Request], str | None]) -> list[web.RouteDef]:
        """What a project's wire carries beside its sled's frames."""
        proxies = [*self.proxy.routes(authenticate), *self.git_proxy.routes(authenticate)]
        return [*proxies, *self.mcp_proxy.routes(authenticate), *self.file_routes.routes(authenticate)]

    def _servers(self) -> Servers:
        metrics = Metrics(
            store=self.store,
            inbox=self.inbox,
            outbox=self.outbox,
            fates=self.fates,
            dispatcher=self.dispatcher,
            projects=self.projects,
        )
        posted = [route for t in self.transports.values() if isinstance(t, Webhooks) for route in t.routes()]
        api = LocalApi(self.services, self.inbox, self.fates, self.cli, parts=self.parts, checks=self.checks)
        gateway = self.settings.gateway
        page = Page(
            self.services,
            self.inbox,
            self.place,
            self.changes,
            self.web_chat,
            secrets=self.secrets.names,
            wrong=self.wrong,
        )
        return Servers(
            gateway.listen,
            self.place,
            [*health.routes(self.parts, metrics.collect, self.life), *posted, *page.routes()],
            cli_socket(gateway.state_dir),
            [*api.routes(), *secrets_api.routes(self.secrets, self._is_project, self._note_secret)],
            page.close,
        )

    # --- at work -----------------------------------------------------------------------------------------------------

    async def _keep_going(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a part that never ends by itself, a transport or a loop; its trouble is reported, and harms no other."""
        while True:
            try:
                await loop()
                return
            except TransportRefused as error:
                self.troubles[name] = str(error)
                log.error("%s: %s", name, error)
            except Exception as error:
                self.troubles[name] = f"{type(error).__name__}: {error}"
                log.exception("%s ended; starting it again", name)
            await asyncio.sleep(_PAUSE_S)
            if name not in self.transports:
                self.troubles.pop(name, None)

    async def _until_end(self, end: asyncio.Event) -> None:
        waits: list[asyncio.Task[Any]] = [
            asyncio.create_task(end.wait()),
            asyncio.create_task(self.store.ended.wait()),
        ]
        if self.console is not None:
            waits.append(asyncio.create_task(self._console_ended()))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(waits)
        self.draining = True
        if self.store.ended.is_set():
            raise StateError(f"the gateway ends: nothing can be written any more: {self.store.problem}")
        if not await self.outbox.drain(DRAIN_S):
            log.warning("some replies have not been sent; the next start sends them")

    async def _console_ended(self) -> None:
        assert self.console is not None
        await self.console.ended()
        if not self.console.capabilities.edits:
            await self.fates.all_settled()  # a pipe: what was asked is answered before we go


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
