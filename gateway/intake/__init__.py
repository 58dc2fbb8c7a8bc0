"""What comes in: committed, read as a command or as a prompt, and routed."""

from gateway.intake.carrying_out import CarryingOut
from gateway.intake.command import Command, CommandContext
from gateway.intake.confirmations import Confirmations
from gateway.intake.grammar import Parsed, Parser
from gateway.intake.inbox import Inbox
from gateway.intake.router import Router
from gateway.intake.services import Services

__all__ = [
    "CarryingOut",
    "Command",
    "CommandContext",
    "Confirmations",
    "Inbox",
    "Parsed",
    "Parser",
    "Router",
    "Services",
    "confirmations",
    "logins",
    "usage",
]
