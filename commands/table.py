"""Every command, in the order in which `help` shows them."""

from __future__ import annotations

from collections.abc import Collection

from commands.agent import Agent
from commands.allow import Allow
from commands.ambient import Ambient
from commands.ask import Ask
from commands.audit import Audit
from commands.cancel import Cancel
from commands.compact import Compact
from commands.confirm import Confirm
from commands.delete import Delete
from commands.deny import Deny
from commands.diff import Diff
from commands.down import Down
from commands.every import Every
from commands.git_identity import GitIdentity
from commands.grant import Grant
from commands.grants import Grants
from commands.help import Help
from commands.lead import Lead
from commands.limits import Limits
from commands.logs import Logs
from commands.model import Model
from commands.new_project import NewProject
from commands.open import Open
from commands.permissions import Permissions
from commands.projects import ListProjects
from commands.propose import Propose
from commands.questions import Questions
from commands.quiet import Quiet
from commands.rebuild import Rebuild
from commands.releases import Releases
from commands.remind import Remind
from commands.reset import Reset
from commands.restart import Restart
from commands.retry import Retry
from commands.revoke import Revoke
from commands.revoke_grant import RevokeGrant
from commands.rollback import Rollback
from commands.schedules import ListSchedules
from commands.sessions import Sessions
from commands.ssh import Ssh
from commands.stacks import Stacks
from commands.status import Status
from commands.stop import Stop
from commands.switch import Switch
from commands.tell import Tell, TellAll, TellMe
from commands.tools import Tools
from commands.undo import Undo
from commands.up import Up
from commands.usage import Usage
from commands.version import Version
from commands.web import EndWebSessions, PageLink, WebSessions
from commands.whoami import WhoAmI
from gateway.errors import UserError
from gateway.intake import Command, Parsed, Parser

COMMANDS: tuple[Command, ...] = (
    Help(),
    NewProject(),
    ListProjects(),
    Status(),
    Switch(),
    Stop(),
    Retry(),
    Allow(),
    Deny(),
    Questions(),
    Diff(),
    Undo(),
    Reset(),
    Sessions(),
    PageLink(),
    WebSessions(),
    EndWebSessions(),
    Compact(),
    Remind(),
    Every(),
    ListSchedules(),
    Cancel(),
    Quiet(),
    Tell(),
    TellAll(),
    TellMe(),
    Ask(),
    Open(),
    Permissions(),
    Revoke(),
    Model(),
    Agent(),
    Tools(),
    Usage(),
    Audit(),
    Grant(),
    Grants(),
    RevokeGrant(),
    Lead(),
    Ssh(),
    Logs(),
    Up(),
    Down(),
    Restart(),
    Rebuild(),
    Limits(),
    Releases(),
    Rollback(),
    Propose(),
    Delete(),
    Confirm(),
    Stacks(),
    Ambient(),
    GitIdentity(),
    WhoAmI(),
    Version(),
)

ALIASES = {"all_status": "projects", "all status": "projects"}

#: Commands that change nothing for an agent; it is not told of them.
_LOOKS = (
    Allow,
    Ambient,
    Compact,
    Deny,
    Diff,
    Grants,
    Help,
    ListProjects,
    ListSchedules,
    Logs,
    Open,
    Questions,
    Releases,
    Sessions,
    Ssh,
    Stacks,
    Status,
    Tools,
)
_QUIET = (*_LOOKS, Version, WhoAmI, Switch, Retry, Reset)


def worth_telling(parser: Parser[Command], text: str, projects: Collection[str]) -> bool:
    """Whether an agent should know that people used this command."""
    try:
        parsed = parser.parse(text.strip(), projects)
    except UserError:
        return False
    return isinstance(parsed, Parsed) and not isinstance(parsed.command, _QUIET)
