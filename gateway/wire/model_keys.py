"""How the model's provider takes each credential: refused, or at its limit, and since or until when.

A refused key is one state, told once. While it lasts the provider is not asked again, but for one call of each project
a minute, which is how the end of it is noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from gateway.clock import now
from gateway.config import Credential
from gateway.config.secrets import ALL
from gateway.events import Events, KeyRefused, KeyWorks, ProviderLimited

#: Seconds between two calls that may find a refused key to work again.
PROBE_S = 60.0
#: Seconds for which a call that was accepted proves a key: another project's refusal is then about its request.
_PROVEN_S = 60.0
#: The farthest end of a limit that is believed, seconds.
_FARTHEST_S = 40 * 86400.0

NO_KEY = f"no model key is set: type `huskies secrets set {ALL} api_key`"


def refused(scope: str) -> str:
    """What to say of a key that was refused, and what to type."""
    return f"the model key was refused: type `huskies secrets set {scope} api_key` (or oauth_token)"


@dataclass
class _State:
    """Of one credential. Times are seconds since the epoch; 0: not."""

    refused_at: float = 0.0
    limited_until: float = 0.0
    #: When the provider last took it, from each project that it was not refused to since.
    accepted_at: dict[str, float] = field(default_factory=dict)
    #: When each project may ask again.
    probe_at: dict[str, float] = field(default_factory=dict)


class Keys:
    """`of` gives the credential of a project, `used` hears of each use. Each change is told once, and of a limit each
    later end.
    """

    def __init__(
        self,
        of: Callable[[str], Credential | None],
        events: Events,
        *,
        used: Callable[[str, str], None] = lambda _project, _secret: None,
        probe_s: float = PROBE_S,
        clock: Callable[[], float] = now,
    ) -> None:
        self._used = used
        self._of = of
        self._events = events
        self._probe_s = probe_s
        self._clock = clock
        self._states: dict[Credential, _State] = {}
        #: Scopes whose key was said to be refused, and was not seen to work since.
        self._told: set[str] = set()

    @property
    def problem(self) -> str:
        """What is wrong with a credential that is in force, or that none is for all; empty while nothing is."""
        refusals = [(state.refused_at, key.scope) for key, state in self._states.items() if state.refused_at]
        if not refusals:
            return "" if self._of(ALL) else NO_KEY
        since, scope = min(refusals)
        return f"{refused(scope)} - since {time.strftime('%H:%M', time.localtime(since))}"

    @property
    def limited_until(self) -> float | None:
        """When the provider serves every credential again, seconds since the epoch; None: it does."""
        latest = max((state.limited_until for state in self._states.values()), default=0.0)
        return latest if latest > self._clock() else None

    def limit_of(self, project: str) -> float | None:
        """The same for one project's credential."""
        key = self._of(project)
        until = self._states[key].limited_until if key in self._states else 0.0
        return until if until > self._clock() else None

    def refusal(self, project: str) -> str:
        """What is wrong with a project's credential, while asking the provider again is pointless; else empty."""
        key = self._of(project)
        if key is None:
            return NO_KEY
        state = self._states.get(key)
        if state is None or not state.refused_at:
            return ""
        # One that never asked may ask, too, after a while: whoever found out may have given up.
        if self._clock() >= state.probe_at.get(project, state.refused_at + self._probe_s):
            return ""
        return refused(key.scope)

    def ask(self, project: str) -> Credential | str:
        """The credential for a call that is to be made now, or why none is."""
        key = self._of(project)
        if key is None:
            return NO_KEY
        state = self._states.setdefault(key, _State())
        now = self._clock()
        if now < state.probe_at.get(project, 0.0):
            return refused(key.scope)
        if state.refused_at or project in state.probe_at:
            state.probe_at[project] = now + self._probe_s
        self._used(project, f"{key.kind} of {key.scope}")
        return key

    def was_refused(self, project: str, key: Credential) -> None:
        """The provider answered that it does not take this credential."""
        if self._of(project) != key:
            return  # replaced meanwhile
        state, now = self._states.setdefault(key, _State()), self._clock()
        state.probe_at[project] = now + self._probe_s
        state.accepted_at.pop(project, None)
        proven = any(now - at < _PROVEN_S for at in state.accepted_at.values())
        if state.refused_at or proven:
            return
        state.refused_at = now
        if key.scope not in self._told:
            self._told.add(key.scope)
            self._events.tell(KeyRefused(refused(key.scope)))

    def was_accepted(self, project: str, key: Credential) -> None:
        """The provider answered a call with this credential."""
        if self._of(project) != key:
            return
        known, now = self._states.get(key), self._clock()
        lately = {one: at for one, at in known.accepted_at.items() if now - at < _PROVEN_S} if known else {}
        self._states[key] = _State(accepted_at={**lately, project: now})
        if key.scope in self._told:
            self._told.discard(key.scope)
            self._events.tell(KeyWorks())

    def was_limited(self, project: str, key: Credential, headers: Mapping[str, str]) -> None:
        """The provider answered 429: a throttle that passes, unless its headers speak of the account's limit."""
        if headers.get("anthropic-ratelimit-unified-status", "").strip().lower() != "rejected":
            return
        now = self._clock()
        until = _seconds(headers.get("anthropic-ratelimit-unified-reset", ""))
        if not now < until < now + _FARTHEST_S:
            until = now + _seconds(headers.get("retry-after", ""))
        state = self._states.setdefault(key, _State())
        if max(now, state.limited_until) < until < now + _FARTHEST_S:
            state.limited_until = until
            self._events.tell(ProviderLimited(until))

    def was_undecided(self, project: str, key: Credential) -> None:
        """The provider answered something else: the project's next call may find out."""
        if key in self._states:
            self._states[key].probe_at.pop(project, None)

    def changed(self, in_force: Collection[Credential]) -> None:
        """Somebody saw to the credentials: each is worth another call. Limits of those that stay, stay."""
        kept = {key: state.limited_until for key, state in self._states.items() if key in in_force}
        self._states = {key: _State(limited_until=until) for key, until in kept.items()}


def _seconds(value: str) -> float:
    return float(value) if value.isascii() and value.isdigit() and len(value) < 16 else 0.0
