"""The platforms that people elsewhere can reach: a row for each, by the name of its section in `[transports]`.

A transport's module is imported only here, when needed, so a gateway without it needs none of its packages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.chat import Deliveries, Transport
from gateway.chat.finding import Finding
from gateway.config import Access, Settings

if TYPE_CHECKING:
    from gateway.chat.guide import Guide
    from transports.matrix import MatrixConfig
    from transports.slack import SlackConfig
    from transports.whatsapp import WhatsAppConfig


@dataclass(frozen=True, slots=True)
class Platform:
    """What the gateway needs of a platform.

    Attributes:
        make: the transport, of the configuration, of who may speak, and of where it tells what became of messages.
        check: looks live whether the platform takes what the configuration says.
        guide: what people click and paste during `huskies init`.
    """

    make: Callable[[Settings, Access, Deliveries], Transport]
    check: Callable[[Settings], Awaitable[list[Finding]]]
    guide: Callable[[], Guide]


def _matrix_config(settings: Settings) -> MatrixConfig:
    from transports.matrix import MatrixConfig

    section = settings.transports.matrix
    assert section is not None
    return MatrixConfig(
        homeserver=section.homeserver,
        user_id=section.user_id,
        access_token=section.access_token.get_secret_value(),
        password=section.password.get_secret_value(),
        device_id=section.device_id,
        encryption=section.encryption,
        store=settings.gateway.state_dir / ".gateway" / "matrix",
        bot_name=settings.gateway.bot_name,
    )


def _matrix(settings: Settings, access: Access, _: Deliveries) -> Transport:
    from transports.matrix import MatrixTransport

    return MatrixTransport(_matrix_config(settings), may_invite=lambda sender: access.role(sender) > 0)


async def _check_matrix(settings: Settings) -> list[Finding]:
    from transports.matrix import check

    return await check.check(_matrix_config(settings))


def _slack_config(settings: Settings) -> SlackConfig:
    from transports.slack import SlackConfig

    section = settings.transports.slack
    assert section is not None
    return SlackConfig(
        mode=section.mode,
        bot_token=section.bot_token.get_secret_value(),
        app_token=section.app_token.get_secret_value(),
        signing_secret=section.signing_secret.get_secret_value(),
        api_base_url=section.api_base_url,
        apps=tuple(section.apps),
        bot_name=settings.gateway.bot_name,
    )


def _slack(settings: Settings, access: Access, _: Deliveries) -> Transport:
    from transports.slack import SlackTransport

    return SlackTransport(_slack_config(settings), may_speak=lambda sender: access.role(sender) > 0)


async def _check_slack(settings: Settings) -> list[Finding]:
    from transports.slack import check

    return await check.check(_slack_config(settings))


def _whatsapp_config(settings: Settings) -> WhatsAppConfig:
    from transports.whatsapp import WhatsAppConfig

    section = settings.transports.whatsapp
    assert section is not None
    return WhatsAppConfig(
        account_sid=section.account_sid,
        auth_token=section.auth_token.get_secret_value(),
        from_number=section.from_number,
        public_url=settings.gateway.public_url,
        api_base_url=section.api_base_url,
        template_sid=section.template_sid,
        quick_replies=section.quick_replies,
    )


def _whatsapp(settings: Settings, _: Access, deliveries: Deliveries) -> Transport:
    from transports.whatsapp import WhatsAppTransport

    return WhatsAppTransport(_whatsapp_config(settings), deliveries)


async def _check_whatsapp(settings: Settings) -> list[Finding]:
    from transports.whatsapp import check

    return await check.check(_whatsapp_config(settings))


def _matrix_guide() -> Guide:
    from transports.matrix.guide import GUIDE

    return GUIDE


def _slack_guide() -> Guide:
    from transports.slack.guide import GUIDE

    return GUIDE


def _whatsapp_guide() -> Guide:
    from transports.whatsapp.guide import GUIDE

    return GUIDE


#: In the order in which people are asked for them.
PLATFORMS: Mapping[str, Platform] = {
    "slack": Platform(_slack, _check_slack, _slack_guide),
    "whatsapp": Platform(_whatsapp, _check_whatsapp, _whatsapp_guide),
    "matrix": Platform(_matrix, _check_matrix, _matrix_guide),
}
