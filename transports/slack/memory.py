"""What was posted under which key, so that no key is posted twice, even across restarts of the gateway.

Slack itself gives no such guarantee; our posts carry their key as metadata. The history is searched before a post

- when this process has not looked into that conversation yet: an earlier one may have posted there and died before
  it could record that. Not for a thread that is younger than this process: nobody posted there before.
- when an earlier try of this process had an unknown outcome.

Within one process a key that was posted is known without looking.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.chat import Conversation

_POSTS, _PLACES = 4096, 4096
#: Seconds that two of Slack's clocks may differ.
_SKEW_S = 5.0


class Memory:
    """Lives as long as the process, across all connections."""

    def __init__(self) -> None:
        #: When this process began, on Slack's clock, in seconds since 1970; 0 while that is not known.
        self.born = 0.0
        self._posted: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._looked: OrderedDict[Conversation, None] = OrderedDict()
        self._doubtful: set[tuple[str, str]] = set()

    def posted(self, conversation: Conversation, key: str) -> str | None:
        """The id of what was posted with `key`."""
        return self._posted.get((str(conversation), key))

    def must_look(self, conversation: Conversation, key: str) -> bool:
        """Whether `key` may already be in the conversation without our knowing."""
        if (str(conversation), key) in self._doubtful:
            return True
        return conversation not in self._looked and not self._is_younger(conversation)

    def _is_younger(self, conversation: Conversation) -> bool:
        try:
            return bool(self.born) and float(conversation.thread or 0) > self.born + _SKEW_S
        except ValueError:
            return False

    def doubt(self, conversation: Conversation, key: str) -> None:
        """Note that it is not known whether `key` was posted."""
        self._doubtful.add((str(conversation), key))

    def looked(self, conversation: Conversation, key: str) -> None:
        """Note that the history was searched for `key`.

        An earlier process can have left only one post unrecorded there, its last; the outbox begins with that one.
        """
        self._doubtful.discard((str(conversation), key))
        self._looked[conversation] = None
        while len(self._looked) > _PLACES:
            self._looked.popitem(last=False)

    def keep(self, conversation: Conversation, key: str, external_id: str) -> None:
        """Note that `key` was posted."""
        self._doubtful.discard((str(conversation), key))
        self._posted[(str(conversation), key)] = external_id
        while len(self._posted) > _POSTS:
            self._posted.popitem(last=False)
