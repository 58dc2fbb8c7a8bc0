"""Projects: what can be done with them, and the part that does it."""

from __future__ import annotations

from functools import partial

from gateway.projects import exposure
from gateway.projects.bootstrap import Bootstrap
from gateway.projects.builds import Builds
from gateway.projects.containers import Containers
from gateway.projects.leftovers import Leftovers
from gateway.projects.lifecycle import Lifecycle
from gateway.projects.rebuild import Rebuild
from gateway.projects.recipes import Recipes
from gateway.projects.reconcile import Reconciler
from gateway.projects.registry import Registry, Setup
from gateway.projects.releases import Releases
from gateway.projects.reservations import Reservations
from gateway.store import Store
from gateway.turns import Dispatcher, Waker
from gateway.wire import Sleds


class Projects:
    """Each of its methods is that of a part; what it is given and raises is said there."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        sleds: Sleds,
        dispatcher: Dispatcher,
        setup: Setup,
        *,
        waker: Waker | None = None,
    ) -> None:
        recipes = Recipes(setup.inputs, setup.instance, setup.state_dir / ".stacks")
        containers = Containers(store, registry, sleds, dispatcher, setup)
        releases = Releases(store, registry)
        leftovers = Leftovers(
            store, registry, containers, recipes, releases.images, state_dir=setup.state_dir, forget=setup.forget
        )
        builds = Builds(registry, containers, leftovers, recipes)
        reservations = Reservations(store, registry, containers, leftovers, recipes, setup)
        bootstrap = Bootstrap(registry, reservations, containers, builds, leftovers, recipes, releases, setup)
        rebuild = Rebuild(registry, containers, builds, leftovers, recipes, releases=releases)
        lifecycle = Lifecycle(store, registry, containers, leftovers, dispatcher, releases=releases)
        reconciler = Reconciler(store, registry, containers, leftovers, reservations, renew=rebuild.renew, waker=waker)

        # Which projects there are, and what they are like.
        self.registry = registry
        self.engine = registry.engine
        self.recipes = recipes
        self.all, self.names, self.get, self.by_id = registry.all, registry.names, registry.get, registry.by_id
        self.state, self.paths, self.spec = registry.state, registry.paths, registry.spec
        self.agent, self.model, self.trouble = registry.agent, registry.model, registry.trouble
        self.access, self.fingerprint, self.include_line = registry.access, registry.fingerprint, registry.include_line
        # From one line in chat to a place that answers; `begin` once people have been told.
        self.create, self.begin = bootstrap.create, containers.begin
        # The rest of its life.
        self.up, self.down, self.restart, self.delete = (
            lifecycle.up,
            lifecycle.down,
            lifecycle.restart,
            lifecycle.delete,
        )
        self.rebuild, self.rollback, self.set_limits = rebuild.rebuild, rebuild.rollback, rebuild.set_limits
        self.releases = releases
        self.set_permissions = lifecycle.set_permissions
        self.set_model, self.set_agent = lifecycle.set_model, lifecycle.set_agent
        # Whose name commits bear.
        self.git_identity, self.identify = setup.git_identity, containers.identify
        self.job, self.logs = containers.call, containers.logs
        self.exposed = partial(exposure.look, registry)
        # What another process left, and what should be.
        self.reconciler = reconciler
        self.recover, self.reconcile_forever = registry.recover, reconciler.forever
