"""What to click and what to paste, for a sender of a Twilio account. docs/whatsapp.md has the long version."""

from __future__ import annotations

import re

from gateway.chat.guide import Guide, Operator, Step

GUIDE = Guide(
    name="whatsapp",
    title="WhatsApp, through Twilio",
    steps=(
        Step(
            "Open https://console.twilio.com: the Account SID (AC...) is on its first page, under Account Info.",
            key="account_sid",
            question="account_sid",
        ),
        Step("The Auth Token is below it.", key="auth_token", question="auth_token", secret=True),
        Step(
            "The number that people will write to: Messaging, Senders, WhatsApp senders. To try it out, use the "
            "sandbox: Messaging, Try it out, Send a WhatsApp message; its number is +14155238886.",
            key="from_number",
            question="from_number",
        ),
        Step(
            "At that sender (or in the Sandbox settings), set “When a message comes in” to this, method POST:\n"
            "  {address}/webhooks/whatsapp#rc=5&rp=all",
        ),
        Step(
            "Optional: the Content SID (HX...) of an approved template that asks a person to write, for when the 24 "
            "hours are over (docs/whatsapp.md). Press Enter for none.",
            key="template_sid",
            question="template_sid",
            optional=True,
        ),
    ),
    stand_ins={"account_sid": "AC" + "0" * 32, "auth_token": "-", "from_number": "+14155238886"},
    operator=Operator("Your own phone number, with its country code.", re.compile(r"\+[1-9]\d{5,14}"), "+491700000000"),
    needs_address=lambda _: True,
    then=lambda answers, _: f"In WhatsApp, write to {answers.get('from_number', 'the number')}: help",
)
