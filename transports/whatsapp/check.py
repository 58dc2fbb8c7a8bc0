"""Live checks of a Twilio account: that it is active, that its sender posts to us, that its templates exist."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from yarl import URL

from gateway.chat.finding import LOOK_S, Finding, broken, clock, hint, ok
from gateway.errors import DeliveryRefused, TransportError
from transports.whatsapp.api import Api
from transports.whatsapp.config import WhatsAppConfig
from transports.whatsapp.webhook import OVERRIDES, PATH

#: The number of Twilio's sandbox, which no account owns.
SANDBOX = "+14155238886"
#: Senders on one page of the list, and pages that are read. An answer is read up to 64 KiB.
_PAGE, _PAGES = 20, 10
_TEMPLATES = "Content Template Builder in Twilio's console"


async def check(config: WhatsAppConfig, now: Callable[[], float] = time.time) -> list[Finding]:
    """Ask Twilio about the account and, if that is in order, about what it has."""
    config = dataclasses.replace(config, request_s=LOOK_S / 2)
    async with Api(config) as api:
        try:
            account, headers = await api.account()
        except TransportError as error:
            return [broken("whatsapp.account", str(error))]
        found = [_account(account), *clock("whatsapp.clock", "Twilio", headers, now())]
        looks = [_sender(api, config)]
        if config.template_sid:
            looks.append(_template(api, config))
        if config.quick_replies:
            looks.append(_quick_replies(api, config))
        return [*found, *await asyncio.gather(*looks)]


def _account(account: Mapping[str, Any]) -> Finding:
    name = "whatsapp.account"
    if str(account.get("type", "")).lower() == "trial":
        return hint(
            name,
            "active, but a trial account: it can write only to numbers that you verified, or that joined the sandbox; "
            "to write to others, upgrade it in Twilio's console",
        )
    return ok(name, "active")


# --- the sender ------------------------------------------------------------------------------------------------------


async def _sender(api: Api, config: WhatsAppConfig) -> Finding:
    name = "whatsapp.sender"
    address = f"{config.public_url}{PATH}{OVERRIDES}"
    look = f'check there that "When a message comes in" is {address}, method POST'
    if not config.public_url:
        return hint(name, "could not be checked: gateway.public_url is not set; the sender has to post there")
    if config.from_number == SANDBOX:
        return hint(
            name,
            "could not be checked: Twilio does not show its sandbox. At Messaging, Try it out, Send a WhatsApp "
            f"message, Sandbox settings, {look}",
        )
    try:
        async with asyncio.timeout(LOOK_S / 2):
            senders = await _senders(api, config)
    except (TransportError, TimeoutError) as error:
        why = str(error) or "Twilio did not answer in time"
        return hint(name, f"could not be checked ({why}). At Messaging, Senders, WhatsApp senders, {look}")
    sender = senders.get(f"whatsapp:{config.from_number}")
    if sender is None:
        there = ", ".join(sorted(number.removeprefix("whatsapp:") for number in senders)[:5]) or "none"
        return broken(
            name,
            f"{config.from_number} is not a WhatsApp sender of this account, which has: {there}; correct "
            "transports.whatsapp.from_number, or make the sender at Messaging, Senders, WhatsApp senders",
        )
    return _online(name, sender, address)


async def _senders(api: Api, config: WhatsAppConfig) -> dict[str, Mapping[str, Any]]:
    """The account's WhatsApp senders by their ids, `whatsapp:+49...`. Raises TransportError."""
    found: dict[str, Mapping[str, Any]] = {}
    base = URL(config.senders_url)
    url = base.with_query(Channel="whatsapp", PageSize=str(_PAGE))
    for _ in range(_PAGES):
        page = await api.look(str(url))
        for sender in page.get("senders") or []:
            if isinstance(sender, dict):
                found[str(sender.get("sender_id", ""))] = sender
        following = _mapping(page.get("meta")).get("next_page_url")
        if not isinstance(following, str) or URL(following).origin() != base.origin():
            break
        url = URL(following)
    return found


def _online(name: str, sender: Mapping[str, Any], address: str) -> Finding:
    """What our sender says about itself."""
    status = str(sender.get("status", ""))
    if not status.startswith("ONLINE"):
        return broken(
            name, f"the sender is {status}; Messaging, Senders, WhatsApp senders in Twilio's console says why"
        )
    webhook = _mapping(sender.get("webhook"))
    told, method = str(webhook.get("callback_url") or ""), str(webhook.get("callback_method") or "POST")
    wanted = address.removesuffix(OVERRIDES)
    set_it = f'in Twilio\'s console, at the sender, set "When a message comes in" to {address}, method POST'
    if not told:
        return broken(name, f"the sender posts nowhere; {set_it}")
    if told.partition("#")[0] != wanted or method != "POST":
        return broken(name, f"the sender posts elsewhere: {method} {_shown(told)}; {set_it}")
    if not told.endswith(OVERRIDES):
        return hint(name, f"without {OVERRIDES} after it, messages during a restart of the gateway are lost; {set_it}")
    return ok(name, f"posts to {wanted}")


def _shown(url: str) -> str:
    """An address without the parts that may hold a secret."""
    try:
        return str(URL(url).with_query(None).with_fragment(None).with_user(None))
    except ValueError:
        return "something that is not an address"


# --- templates -------------------------------------------------------------------------------------------------------


async def _template(api: Api, config: WhatsAppConfig) -> Finding:
    """The template that asks a person to write is sent after the 24 hours, so WhatsApp must have approved it."""
    name = "whatsapp.template_sid"
    try:
        told = await api.look(f"{config.content_url(config.template_sid)}/ApprovalRequests")
    except DeliveryRefused as error:
        return broken(name, f"{config.template_sid} does not exist ({error}); correct it, or look in the {_TEMPLATES}")
    except TransportError as error:
        return hint(name, f"could not be checked: {error}")
    approval = _mapping(told.get("whatsapp"))
    match str(approval.get("status", "unsubmitted")).lower():
        case "approved":
            return ok(name, "approved")
        case "unsubmitted":
            return broken(name, f"was never submitted to WhatsApp for approval; do that in the {_TEMPLATES}")
        case "received" | "pending" as status:
            return broken(name, f"WhatsApp has not approved it yet ({status}); until then nobody is asked to write")
        case status:
            why = str(approval.get("rejection_reason") or "no reason was given")[:200]
            return broken(name, f"is {status} ({why}); make another one in the {_TEMPLATES}")


async def _quick_replies(api: Api, config: WhatsAppConfig) -> Finding:
    """Buttons are sent within the 24 hours, where no approval is needed: the templates only have to exist."""
    name = "whatsapp.quick_replies"
    sids = sorted(set(config.quick_replies.values()))
    found = await asyncio.gather(*(api.look(config.content_url(sid)) for sid in sids), return_exceptions=True)
    missing = [sid for sid, told in zip(sids, found, strict=True) if isinstance(told, DeliveryRefused)]
    plain = [
        sid
        for sid, told in zip(sids, found, strict=True)
        if isinstance(told, dict) and "twilio/quick-reply" not in _mapping(told.get("types"))
    ]
    for told in found:
        if isinstance(told, BaseException) and not isinstance(told, TransportError):
            raise told
    if missing:
        return broken(name, f"{', '.join(missing)}: does not exist; correct it, or look in the {_TEMPLATES}")
    if plain:
        return broken(name, f"{', '.join(plain)} has no buttons; make a Quick reply template in the {_TEMPLATES}")
    if failed := [str(told) for told in found if isinstance(told, TransportError)]:
        return hint(name, f"could not be checked: {failed[0]}")
    return ok(name, f"{len(sids)} with buttons")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
