"""What goes out: replies, files, fates, in order and once."""

from gateway.delivery.fates import Fates
from gateway.delivery.files import Files
from gateway.delivery.notice import Notice
from gateway.delivery.outbox import Outbox

__all__ = [
    "Fates",
    "Files",
    "Notice",
    "Outbox",
]
