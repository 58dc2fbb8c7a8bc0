"""What people are asked, and what they say to it."""

from gateway.asking.answers import Answers
from gateway.asking.people import name_of
from gateway.asking.posting import Posting, is_long
from gateway.asking.questions import Permission, Questions, Then

__all__ = [
    "Answers",
    "Permission",
    "Posting",
    "Questions",
    "Then",
    "cards",
    "is_long",
    "name_of",
]
