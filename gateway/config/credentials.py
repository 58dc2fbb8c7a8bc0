"""Which credential pays for which project's model calls: its own, else the one for all, else the configuration's."""

from __future__ import annotations

from dataclasses import dataclass, field

from multidict import CIMultiDict

from gateway.config.secrets import ALL, KEYS, Secrets
from gateway.config.sections import AgentSection

#: Makes the provider accept a subscription's bearer token. What is in a container may be of another kind than the key
#: that the gateway has by now, so the gateway sees to it.
_OAUTH_BETA = "oauth-2025-04-20"


@dataclass(frozen=True, slots=True)
class Credential:
    """An API key, or the token of a subscription. `scope`: a project's name, or `all`."""

    scope: str
    kind: str
    value: str = field(repr=False)

    def sign(self, headers: CIMultiDict[str]) -> None:
        """Put this credential into a request's headers, which have none."""
        betas = [beta.strip() for value in headers.popall("anthropic-beta", []) for beta in value.split(",")]
        betas = [beta for beta in betas if beta and beta != _OAUTH_BETA]
        if self.kind == "api_key":
            headers["x-api-key"] = self.value
        else:
            headers["Authorization"] = f"Bearer {self.value}"
            betas.append(_OAUTH_BETA)
        if betas:
            headers["anthropic-beta"] = ",".join(betas)


class Credentials:
    """Looks them up afresh each time: a secret that is set is used at once. Projects go by their names."""

    def __init__(self, agent: AgentSection, secrets: Secrets) -> None:
        self._agent = agent
        self._secrets = secrets
        values = {kind: getattr(agent, kind).get_secret_value() for kind in KEYS}
        self._configured = next((Credential(ALL, kind, value) for kind, value in values.items() if value), None)

    def of(self, project: str) -> Credential | None:
        """The credential for a project's calls; `all` asks for that of projects that have none of their own."""
        for scope in (project, ALL):
            for kind in KEYS:
                if value := self._secrets.get(scope, kind):
                    return Credential(scope, kind, value)
        return self._configured

    def in_force(self) -> list[Credential]:
        """Every credential that pays for some project, or would."""
        scopes = {ALL, *self._secrets.names()}
        return [found for scope in sorted(scopes) if (found := self.of(scope)) is not None]

    def chosen(self, project: str) -> str:
        """The agent that answers in a project: Claude needs a key, and where there is none the scripted one answers."""
        if self._agent.kind != "auto":
            return self._agent.kind
        return "scripted" if self.of(project) is None else "claude"

    def oauth(self, project: str) -> bool:
        """Whether a project's calls are paid for by a subscription."""
        found = self.of(project)
        return found is not None and found.kind == "oauth_token"
