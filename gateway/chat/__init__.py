"""All that a transport may import: the nouns of a chat, and documents, text, wording and findings."""

from gateway.chat.nouns import (
    Attachment,
    Conversation,
    Fate,
    Incoming,
    Message,
    MessageRef,
    Move,
    OutgoingFile,
    Withdrawal,
)
from gateway.chat.transport import (
    Capabilities,
    Deliveries,
    Membership,
    Noted,
    Outcome,
    Receiver,
    Reply,
    Transport,
    WithoutFiles,
)

# fmt: off
__all__ = [
    "Attachment", "Capabilities", "Conversation", "Deliveries", "Fate", "Incoming", "Membership", "Message",
    "MessageRef", "Move", "Noted", "Outcome", "OutgoingFile", "Receiver", "Reply", "Transport", "Withdrawal",
    "WithoutFiles",
    "cutting", "document", "finding", "guide", "html", "markdown", "table", "text", "wording",
]
