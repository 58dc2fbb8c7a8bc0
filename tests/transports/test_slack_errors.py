"""Every failure of the SDK is one of ours, and the right one."""

from __future__ import annotations

import asyncio
import inspect
import json
import ssl
from collections.abc import Iterator
from unittest.mock import Mock

import aiohttp
import pytest
from slack_sdk import errors as slack_errors
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from gateway.errors import (
    DeliveryHeld,
    DeliveryRefused,
    HuskiesError,
    StateError,
    TransportDown,
    TransportError,
    TransportRefused,
)
from transports.slack import errors


def kinds(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def made(kind: type[BaseException]) -> Exception:
    """An instance, whatever its constructor wants."""
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(Mock(), (), status=418)
    error = kind.__new__(kind)
    assert isinstance(error, Exception)
    return error


SDK = [kind for _, kind in inspect.getmembers(slack_errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", [kind for kind in SDK if kind is not SlackApiError])
def test_every_exception_of_the_sdk_is_known(kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(errors.from_exception(made(kind)), TransportError)
    assert "unexpected" not in caplog.text, f"{kind.__name__} is translated by accident only"


@pytest.mark.parametrize(
    "kind", [*set(kinds(aiohttp.ClientError)), TimeoutError, ConnectionResetError, ssl.SSLError, json.JSONDecodeError]
)
def test_every_exception_below_the_sdk_is_known(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.__module__.startswith("aiohttp"):
        monkeypatch.setattr(kind, "__str__", lambda _: "made without its arguments")
    assert isinstance(errors.from_exception(made(kind)), TransportDown | TransportRefused)
    assert "unexpected" not in caplog.text


def refusal(message: str, response: object) -> SlackApiError:
    return SlackApiError(message, response)  # type: ignore[no-untyped-call]


def answer(error: str, status: int = 200, headers: dict[str, str] | None = None, **more: str) -> SlackApiError:
    response = AsyncSlackResponse(
        client=None,
        http_verb="POST",
        api_url="",
        req_args={},
        data={"ok": False, "error": error, **more},
        headers=headers or {},
        status_code=status,
    )
    return refusal("failed", response)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer("invalid_auth"), errors.AccountRefused),
        (answer("account_inactive"), errors.AccountRefused),
        (answer("token_revoked"), errors.AccountRefused),
        (answer("missing_scope", needed="files:write"), TransportRefused),
        (answer("ratelimited", 429, {"Retry-After": "3"}), errors.Undone),
        (answer("ratelimited"), errors.Undone),
        (answer("internal_error", 500), TransportDown),
        (answer("service_unavailable", 503), TransportDown),
        (answer("channel_not_found"), DeliveryHeld),
        (answer("something_new"), DeliveryRefused),
        (refusal("no JSON", Mock(spec=["status"], status=502)), TransportDown),
        (refusal("no JSON", {}), TransportDown),
        (StateError("as it is"), StateError),
        (aiohttp.InvalidURL("x"), TransportRefused),
        (KeyError("a bug"), TransportDown),
    ],
)
def test_what_an_error_means(given: Exception, expected: type[Exception]) -> None:
    assert type(errors.from_exception(given)) is expected


def test_the_missing_scope_is_named() -> None:
    assert "files:write" in str(errors.from_exception(answer("missing_scope", needed="files:write")))


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("1e9", 3600.0), ("soon", 1.0), (None, 1.0)]
)
def test_how_long_to_wait(header: str | None, seconds: float) -> None:
    error = errors.from_exception(answer("ratelimited", 429, {"retry-after": header} if header else {}))
    assert isinstance(error, TransportDown)
    assert error.retry_after_s == seconds


def test_a_refused_connection_is_surely_undone() -> None:
    """So that the next try need not look for what it may have done."""

    async def connect(port: int) -> None:
        with errors.translated():
            async with aiohttp.ClientSession() as session:
                await session.get(f"http://127.0.0.1:{port}/")

    with pytest.raises(errors.Undone):
        asyncio.run(connect(1))


def test_a_bug_does_not_quote_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(HuskiesError), errors.translated():
        raise KeyError("canary")
    assert "canary" not in caplog.text
    assert "unexpected KeyError" in caplog.text
