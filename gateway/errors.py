"""Every error that huskies raises on purpose.

The tree::

    HuskiesError
    ├── UserError              its text is shown to the person who caused it
    │   ├── ConfigError        one line at start-up: what is wrong and what to type
    │   └── VersionMissing     a version that a source asks for is not available; a person may do without it
    ├── StateError             the state directory cannot be used
    │   ├── StateLocked        another gateway holds it
    │   └── StateTooNew        its database was written by a newer version
    ├── TransportError         a chat platform
    │   ├── TransportDown      not reachable or rate limited now; worth another try
    │   ├── DeliveryRefused    the platform will never take this message
    │   │   └── TooLong        but it may take it in smaller parts
    │   ├── DeliveryHeld       the platform takes it once something about the room has changed
    │   ├── OutcomeUnknown     the platform may or may not have taken it
    │   └── TransportRefused   the account or its token cannot be used: a person must act
    ├── EngineError            the engine that runs sleds
    │   ├── EngineDown         it does not answer
    │   └── BuildFailed        an image could not be built, or is not what it must be
    └── SledError              a project's sled
        ├── SledAway           it is not connected
        └── SledRefused        it answered that it could not do what was asked

A class's docstring is its default message. SDK exceptions never leave the module that imports the SDK.
"""

from __future__ import annotations

import inspect


class HuskiesError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or ""))


class UserError(HuskiesError):
    """That did not work.

    The text must say what was wrong and what to type next; it is sent as it is.
    """


class ConfigError(UserError):
    """The configuration cannot be used."""


class VersionMissing(UserError):
    """A version that the source asks for is not available."""

    def __init__(self, message: str | None = None, *, keys: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        #: What a person who continues accepts: `stack version`, each.
        self.keys = keys


class StateError(HuskiesError):
    """The state directory cannot be used."""


class StateLocked(StateError):
    """Another gateway is running on this state directory."""


class StateTooNew(StateError):
    """This state directory was written by a newer version of huskies."""


class TransportError(HuskiesError):
    """A chat platform failed."""


class TransportDown(TransportError):
    """The chat platform cannot be reached now."""

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        #: Seconds that the platform asked us to wait, when it said so.
        self.retry_after_s = retry_after_s


class DeliveryRefused(TransportError):
    """The chat platform refused the message."""


class TooLong(DeliveryRefused):
    """The chat platform finds the message too long."""


class DeliveryHeld(TransportError):
    """It cannot be sent before the person writes again."""  # or what else has to happen: people read it


class OutcomeUnknown(TransportError):
    """It is not known whether the chat platform took the message."""


class TransportRefused(TransportError):
    """The chat platform refused the account."""


class EngineError(HuskiesError):
    """The engine failed."""


class EngineDown(EngineError):
    """The engine does not answer."""


class BuildFailed(EngineError):
    """The image could not be built."""


class SledError(HuskiesError):
    """The project's sled failed."""


class SledAway(SledError):
    """The project's sled is not connected."""


class SledRefused(SledError):
    """The project's sled could not do that."""
