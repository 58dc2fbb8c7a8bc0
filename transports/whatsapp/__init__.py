"""The WhatsApp transport, through Twilio: one conversation per phone number.

Importing this package does not import the SDK; running the transport does.
"""

from transports.whatsapp.config import WhatsAppConfig
from transports.whatsapp.transport import WhatsAppTransport

__all__ = ["WhatsAppConfig", "WhatsAppTransport"]
