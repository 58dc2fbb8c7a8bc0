"""The composition root: the only place that names concrete classes. Each part is made of what it needs, once."""

from __future__ import annotations

import asyncio
import gc
import getpass
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from commands.table import ALIASES, COMMANDS, worth_telling
from gateway.app.app import App
from gateway.app.platforms import PLATFORMS
from gateway.app.startup import agent_line, check, check_senders, choose_engine, tell_of_another_state
from gateway.asking import Answers, Posting, Questions
from gateway.chat import Transport
from gateway.config import Access, Credentials, Secrets, Settings, build_inputs, database, git_identity, host_network
from gateway.config.log import SHOWN, blot_out
from gateway.config.mcp import servers_of
from gateway.config.secrets import ALL, secrets_file
from gateway.config.sections import passwords_in
from gateway.config.state_dir import instance, lock_state
from gateway.delivery import FROM_PAGE, Fates, Files, Outbox
from gateway.engine import Engine
from gateway.events import (
    Event,
    Events,
    KeyRefused,
    KeyWorks,
    MayBegin,
    ProjectChanged,
    ProjectGone,
    ProviderLimited,
    QuestionsChanged,
    SecretsChanged,
    SledIgnores,
    TurnBegan,
    TurnOver,
)
from gateway.hive import Calls, Door, Leads, Notes, Powers, Schedules
from gateway.intake import CarryingOut, Confirmations, Inbox, Parser, Router, Services
from gateway.intake.logins import Logins
from gateway.projects import Places, Projects, Registry, Setup, users
from gateway.store import Store, messages
from gateway.store.seal import Seal
from gateway.turns import Admission, Around, CallGate, Dispatcher, Limits
from gateway.web.changes import FLOW, NEEDS, Changes
from gateway.web.chat import topic_of
from gateway.web.place import Place
from gateway.wire import (
    Accounts,
    Bodies,
    FileRoutes,
    GitProxy,
    Keys,
    McpProxy,
    ModelProxy,
    Prices,
    Pushes,
    SecretUses,
    Sleds,
)
from stacks.images import BuildInputs
from transports.agents import Agents
from transports.cli import Cli
from transports.web import Web

if TYPE_CHECKING:
    from transports.console import Console

log = logging.getLogger(__name__)


async def build(  # noqa: PLR0915 - one list from top to bottom, which is what it should be
    settings: Settings,
    config_file: Path | None,
    *,
    pipe: bool = False,
    terminal: bool = False,
    engine: Engine | None = None,
    more_transports: Mapping[str, Transport] | None = None,
) -> App:
    """Open the state and make a gateway of it. Raises ConfigError, StateError."""
    check(settings)
    host = host_network.find(os.environ)
    inputs = build_inputs.read(settings.build, host)
    blot_out(password for address in inputs.arguments.values() for password in passwords_in(address))
    state_dir = settings.gateway.state_dir

    def heard(event: Event) -> None:
        """Who hears of what."""
        match event:
            case SecretsChanged():
                blot_out(secrets.values())
                keys.changed(credentials.in_force())
                uses.changed()
                dispatcher.key_changed()
            case KeyRefused(told):
                log.error("%s", told)
                changes.tell(NEEDS)
            case KeyWorks():
                log.warning("the model key works again")
                changes.tell(NEEDS)
                dispatcher.key_changed()
            case ProviderLimited(until):
                admission.limit(until)
            case MayBegin():
                dispatcher.fill()
                gate.look_again()
            case ProjectChanged(project_id):
                changes.project(project_id)
            case TurnBegan(project_id):
                changes.project(project_id)
                changes.tell(NEEDS)
            case QuestionsChanged():
                changes.tell(NEEDS)
            case TurnOver(project_id):
                changes.project(project_id)
                changes.tell(NEEDS)
                gate.look_again()
            case ProjectGone(project_id):
                powers.gone(project_id)
            case SledIgnores(project_id):
                projects.reconciler.replace_soon(project_id)

    changes = Changes()
    events = Events(heard)
    address = database.where(settings)
    blot_out(database.passwords(address))
    store = await Store.open(address, Seal(state_dir / ".gateway"))
    await tell_of_another_state(store, address, state_dir)
    engine = engine or await choose_engine(settings, store)

    # What goes out.
    user = getpass.getuser()
    cli = Cli(user)
    console = _console(settings, user, pipe=pipe, terminal=terminal)
    access = Access(settings.access.operators, settings.access.members, {cli.sender, f"console:{user}"})
    web_chat = Web(lambda room, what: changes.tell(topic_of(room, what)), state_dir / ".gateway" / "files" / FROM_PAGE)
    transports: dict[str, Transport] = {"cli": cli, "web": web_chat, **(more_transports or {})}
    transports |= {"console": console} if console is not None else {}
    check_senders(settings, {*PLATFORMS, "console", *transports})
    transports["agent"] = Agents()
    outbox = Outbox(store, transports, on_new=lambda: changes.tell(FLOW))
    transports |= {name: PLATFORMS[name].make(settings, access, outbox) for name in settings.remote_transports}
    fates = Fates(outbox)
    files = Files(state_dir / ".gateway" / "files", store, outbox)

    # Projects, and what may be done for them.
    secrets = Secrets(secrets_file(state_dir), events)
    blot_out(secrets.values())
    credentials = Credentials(settings.agent, secrets)
    git_tokens = {host: value for host, token in settings.git.tokens.items() if (value := token.get_secret_value())}
    sleds = Sleds(git_tokens, events)
    setup = _setup(settings, config_file, inputs, credentials, secrets)
    registry = Registry(store, engine, sleds, setup, events)
    uses = SecretUses(store, lambda project: registry.name_of(project, ""))
    keys = Keys(lambda project: credentials.of(registry.name_of(project, ALL)), events, used=uses.note)

    # What agents may do, what they ask, and how messages become turns.
    def name_of(project_id: int) -> str:
        return registry.name_of(str(project_id), "")

    powers = Powers(store, COMMANDS, name_of)
    people = settings.people
    leads = Leads(
        store,
        registry,
        powers,
        access,
        file=state_dir / ".lead.md",
        people=people,
        hand_on=lambda message: router.route(message),  # noqa: PLW0108 - made below
    )
    posting = Posting(outbox, files.keep)
    questions = Questions(store, outbox, registry.send, people, settings.agent.permission_timeout_s, posting, events)
    answers = Answers(questions, outbox, people)
    admission = Admission(
        store,
        questions,
        settings.agent.budget_usd_per_project_day,
        events,
        limit_of=lambda project_id: keys.limit_of(str(project_id)),
        own_budget=lambda project_id: settings.gateway.lead_budget_usd_per_day if registry.leads(project_id) else 0.0,
        refusal=lambda project_id: keys.refusal(str(project_id)) if registry.runs_claude(project_id) else "",
    )
    parser = Parser(COMMANDS, ALIASES)
    around = Around(
        store=store,
        outbox=outbox,
        fates=fates,
        wire=registry,
        limits=make_limits(settings),
        run_settings=lambda project: replace(
            registry.run_settings(project),
            door=powers.told(project),
            release=projects.releases.told(project),
            lead=leads.told(project),
            mcp=servers_of(settings.agent.mcp, name_of(project)),
        ),
        people=people,
        questions=questions,
        admission=admission,
        take_file=files.take,
        abridge=files.abridge,
        waker=leads,
    )
    dispatcher = Dispatcher(around, worth_telling=lambda text: worth_telling(parser, text, registry.names()))
    projects = Projects(store, registry, sleds, dispatcher, setup, waker=leads)

    # What the wire carries beside frames.
    accounts = Accounts(store)
    bodies = Bodies()
    gate = CallGate(admission, dispatcher.at_work)
    prices = Prices(settings.agent.prices)
    proxy = ModelProxy(settings.agent.api_base_url, keys, accounts.take, bodies, gate=gate, prices=prices)
    pushes = Pushes(questions, dispatcher.running_in, lambda project_id: registry.run_settings(project_id).permissions)
    git_proxy = GitProxy(git_tokens, pushes.refusal, bodies, used=uses.note)
    mcp_proxy = McpProxy(settings.agent.mcp, lambda project: registry.name_of(project, ""), bodies, used=uses.note)

    # What comes in.
    schedules = Schedules(
        store,
        outbox,
        access,
        people=people,
        fates=fates,
        hand_on=lambda message: router.route(message),  # noqa: PLW0108 - made below
        name_of=name_of,
        waker=leads,
    )
    notes = Notes(
        store,
        outbox,
        questions,
        registry=registry,
        fates=fates,
        hand_on=lambda message: router.route(message),  # noqa: PLW0108 - made below
    )
    calls = Calls(store, access, powers, questions, dispatcher, registry)
    place = Place(int(settings.gateway.listen.rpartition(":")[2]), settings.gateway.public_url)
    services = Services(
        settings=settings,
        store=store,
        access=access,
        outbox=outbox,
        dispatcher=dispatcher,
        questions=questions,
        answers=answers,
        admission=admission,
        files=files,
        projects=projects,
        confirmations=Confirmations(lambda: changes.tell(NEEDS)),
        powers=powers,
        schedules=schedules,
        notes=notes,
        leads=leads,
        calls=calls,
        logins=Logins(store, access, place),
        transports=transports,
        commands=COMMANDS,
        agent_line=lambda: agent_line(settings, credentials.chosen(ALL)),
    )
    carrying_out = CarryingOut(services, fates, lambda *answer: door.tell(*answer))  # noqa: PLW0108 - made below
    router = Router(services, fates, parser, calls, carrying_out)

    def accepted(message: messages.StoredMessage) -> None:
        changes.tell(FLOW)
        if message.project_id is not None:
            changes.project(message.project_id)  # one more waits there
        router.route(message)

    inbox = Inbox(
        store,
        access,
        on_accepted=accepted,
        on_withdrawn=dispatcher.withdrawn,
        on_moved=outbox.moved,
        words=router.words,
        on_typing=dispatcher.typing,
    )
    door = Door(store, calls, inbox.accept, sleds.send)
    return App(
        settings=settings,
        host=host,
        store=store,
        engine=engine,
        sleds=sleds,
        secrets=secrets,
        credentials=credentials,
        accounts=accounts,
        gate=gate,
        proxy=proxy,
        git_proxy=git_proxy,
        mcp_proxy=mcp_proxy,
        uses=uses,
        outbox=outbox,
        fates=fates,
        projects=projects,
        dispatcher=dispatcher,
        questions=questions,
        admission=admission,
        files=files,
        door=door,
        powers=powers,
        schedules=schedules,
        notes=notes,
        file_routes=FileRoutes(files.folder, store, transports),
        router=router,
        inbox=inbox,
        services=services,
        place=place,
        changes=changes,
        transports=transports,
        console=console,
        cli=cli,
        web_chat=web_chat,
    )


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
        told_after_s=dispatcher.told_after_s,
    )


def _console(settings: Settings, user: str, *, pipe: bool, terminal: bool) -> Console | None:
    if not settings.transports.console.enabled or not (pipe or terminal):
        return None
    from transports.console import Console  # a service has no terminal

    return Console(user, pipe=pipe, history=settings.gateway.state_dir / ".gateway" / "history")


def _setup(
    settings: Settings, config_file: Path | None, inputs: BuildInputs, credentials: Credentials, secrets: Secrets
) -> Setup:
    state_dir = settings.gateway.state_dir
    forbidden = [state_dir, *([config_file] if config_file else [])]
    return Setup(
        state_dir=state_dir,
        places=Places(settings.projects.root, settings.projects.allowed_roots, forbidden),
        permissions=settings.agent.permissions,
        agent=credentials.chosen,
        model=settings.agent.model,
        oauth=credentials.oauth,
        forget=secrets.forget,
        git_identity=git_identity.GitIdentity(settings.git, state_dir / ".gateway" / "git-identity.json"),
        default_branch=settings.git.default_branch,
        git_hosts=frozenset(host for host, token in settings.git.tokens.items() if token.get_secret_value()),
        instance=instance(state_dir),
        inputs=inputs,
        ssh_ports=settings.projects.port_range,
        user_ids=settings.projects.user_range,
        host_user=users.account(settings.projects.host_user),
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
        announcing = asyncio.create_task(_announce(app, began, link=terminal and not pipe))
        try:
            await app.run(end)
        finally:
            announcing.cancel()


async def _announce(app: App, began: float, *, link: bool) -> None:
    """Say where everything is. `link`: to a terminal of the gateway's own user, a login for the page, too."""
    await app.started.wait()
    # What is there by now stays; the collector, off during the start, need not look through it again and again.
    gc.freeze()
    gc.enable()
    settings = app.settings
    log.info(
        "huskies is ready after %.2f s on http://%s, state in %s, engine %s%s. %s",
        time.monotonic() - began,
        settings.gateway.listen,
        settings.gateway.state_dir,
        app.engine.kind,
        "" if app.engine.isolated else " (no isolation)",
        agent_line(settings, app.credentials.chosen(ALL)),
        extra=SHOWN,
    )
    if link:
        sender = app.cli.sender
        told = app.services.logins.link(sender, sender.partition(":")[2])
        log.info(
            "The page in the browser: %s (once, within 5 minutes; `huskies login` makes another)", told, extra=SHOWN
        )
