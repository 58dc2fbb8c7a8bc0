"""The platforms that people elsewhere can reach: each transport, made of its section when that is on.

A transport's module is imported here and only then, so a gateway without it needs none of its packages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.access import Access
from gateway.chat import Transport
from gateway.settings import Settings


def _matrix(settings: Settings, access: Access) -> Transport:
    from transports.matrix import MatrixConfig, MatrixTransport

    section = settings.transports.matrix
    assert section is not None
    config = MatrixConfig(
        homeserver=section.homeserver,
        user_id=section.user_id,
        access_token=section.access_token.get_secret_value(),
        password=section.password.get_secret_value(),
        device_id=section.device_id,
        encryption=section.encryption,
        store=settings.gateway.state_dir / ".gateway" / "matrix",
        bot_name=settings.gateway.bot_name,
    )
    return MatrixTransport(config, may_invite=lambda sender: access.role(sender) > 0)


def _slack(settings: Settings, access: Access) -> Transport:
    from transports.slack import SlackConfig, SlackTransport

    section = settings.transports.slack
    assert section is not None
    config = SlackConfig(
        mode=section.mode,
        bot_token=section.bot_token.get_secret_value(),
        app_token=section.app_token.get_secret_value(),
        signing_secret=section.signing_secret.get_secret_value(),
        api_base_url=section.api_base_url,
        bot_name=settings.gateway.bot_name,
    )
    return SlackTransport(config, may_speak=lambda sender: access.role(sender) > 0)


def _whatsapp(settings: Settings, _: Access) -> Transport:
    from transports.whatsapp import WhatsAppConfig, WhatsAppTransport

    section = settings.transports.whatsapp
    assert section is not None
    config = WhatsAppConfig(
        account_sid=section.account_sid,
        auth_token=section.auth_token.get_secret_value(),
        from_number=section.from_number,
        public_url=settings.gateway.public_url,
        api_base_url=section.api_base_url,
        template_sid=section.template_sid,
        quick_replies=section.quick_replies,
    )
    return WhatsAppTransport(config)


#: By the name of the section. Each takes the configuration, and who may speak.
MAKE: Mapping[str, Callable[[Settings, Access], Transport]] = {
    "matrix": _matrix,
    "slack": _slack,
    "whatsapp": _whatsapp,
}
