"""What goes out: replies, files, fates, in order and once."""

from gateway.delivery.fates import Fates
from gateway.delivery.files import FROM_PAGE, Files, safe_name
from gateway.delivery.notice import Notice
from gateway.delivery.outbox import Outbox

__all__ = [
    "FROM_PAGE",
    "Fates",
    "Files",
    "Notice",
    "Outbox",
    "safe_name",
]
