"""Every command, in the order in which `help` shows them."""

from __future__ import annotations

from commands.ambient import Ambient
from commands.confirm import Confirm
from commands.delete import Delete
from commands.down import Down
from commands.help import Help
from commands.logs import Logs
from commands.new_project import NewProject
from commands.permissions import Permissions
from commands.projects import ListProjects
from commands.rebuild import Rebuild
from commands.reset import Reset
from commands.restart import Restart
from commands.retry import Retry
from commands.ssh import Ssh
from commands.stacks import Stacks
from commands.status import Status
from commands.stop import Stop
from commands.switch import Switch
from commands.up import Up
from commands.version import Version
from commands.whoami import WhoAmI
from gateway.command import Command

COMMANDS: tuple[Command, ...] = (
    Help(),
    NewProject(),
    ListProjects(),
    Status(),
    Switch(),
    Stop(),
    Retry(),
    Reset(),
    Permissions(),
    Ssh(),
    Logs(),
    Up(),
    Down(),
    Restart(),
    Rebuild(),
    Delete(),
    Confirm(),
    Stacks(),
    Ambient(),
    WhoAmI(),
    Version(),
)

ALIASES = {"all_status": "projects", "all status": "projects"}
