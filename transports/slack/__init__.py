"""The Slack transport: direct messages, threads in channels, buttons, reactions and files.

Importing this package does not import the Slack SDK; running the transport does.
"""

from transports.slack.config import SlackConfig
from transports.slack.transport import SlackTransport

__all__ = ["SlackConfig", "SlackTransport"]
