"""What the provider asks for a token, so that what a container says of its cost is not all that is known of it.

USD for a million tokens, as the provider listed them at `AS_OF`. `[agent.prices]` in the configuration goes before this
table. A model that neither knows counts as the dearest of them: it may be newer, and a budget must hold.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.store.usage import Used

AS_OF = "2025-12"
#: By the beginning of a model's name: input, output.
LISTED: Mapping[str, tuple[float, float]] = {
    "claude-opus-4-5": (5.0, 25.0),
    "claude-opus-4": (15.0, 75.0),
    "claude-3-opus": (15.0, 75.0),
    "claude-sonnet-4": (3.0, 15.0),
    "claude-3-7-sonnet": (3.0, 15.0),
    "claude-3-5-sonnet": (3.0, 15.0),
    "claude-haiku-4-5": (1.0, 5.0),
    "claude-3-5-haiku": (0.8, 4.0),
    "claude-3-haiku": (0.25, 1.25),
}
#: What a token that a cache had, or takes, costs: as a part of an input token.
_CACHE_READ, _CACHE_WRITE = 0.1, 1.25
_MILLION = 1e6
#: What a token of a stream has at least.
_BYTES = 3
#: Output tokens of a call that does not say how many it may have.
_DEFAULT_MOST = 4096


class Asked(msgspec.Struct):
    """What a model call asks for, as far as it decides the price."""

    model: str = ""
    max_tokens: int = _DEFAULT_MOST


def read(body: bytes) -> Asked:
    """The request in a body; what cannot be read is refused by the provider, and costs nothing there."""
    try:
        return msgspec.json.decode(body, type=Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Asked()


class Prices:
    """The table, below what an operator has written into the configuration."""

    def __init__(self, own: Mapping[str, tuple[float, float]] | None = None) -> None:
        self._known = {**LISTED, **(own or {})}

    def of(self, model: str) -> tuple[float, float]:
        """What an input and an output token of a model cost, USD."""
        named = max((name for name in self._known if model.startswith(name)), key=len, default=None)
        listed = self._known[named] if named else max(self._known.values(), key=lambda price: price[1])
        return listed[0] / _MILLION, listed[1] / _MILLION

    def most(self, asked: Asked) -> float:
        """What the answer to a call may cost, USD: all the tokens that it asks for."""
        return self.of(asked.model)[1] * max(0, asked.max_tokens)

    def cost(self, asked: Asked, used: Used, streamed: int) -> float:
        """What a call has cost, USD. Of one that was cut before its last account, `streamed` bytes had come."""
        read, written = self.of(asked.model)
        output = used.output_tokens
        if used.at_least:  # whoever hangs up just before the account pays for what came
            output = max(output, min(max(0, asked.max_tokens), streamed // _BYTES))
        cached = used.cache_read_tokens * _CACHE_READ + used.cache_write_tokens * _CACHE_WRITE
        return (used.input_tokens + cached) * read + output * written
