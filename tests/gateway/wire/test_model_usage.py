"""Counting: what a call used is read from its response, however that comes and ends."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.store.usage import Used
from gateway.wire.model_usage import CallReader, is_dialogue
from tests.support.claude_api import ClaudeApi, script
from tests.support.proxy import KEY, STUB, Proxy, body, project_of


@pytest.fixture
async def api() -> AsyncIterator[ClaudeApi]:
    async with ClaudeApi(require_key=KEY) as api:
        yield api


STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"big","usage":{"input_tokens":10,'
    b'"cache_read_input_tokens":5,"cache_creation_input_tokens":null,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"delta":{"text":"\\"message_delta\\" {"}}\r\n\r\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":20}}\r\n\r\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"input_tokens":10,"output_tokens":30}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def read(*chunks: bytes, kind: str = "text/event-stream", status: int = 200) -> tuple[Used, int]:
    """What is read from a response, and how often it said that it was complete."""
    complete: list[Used] = []
    reader = CallReader(dialogue=True, on_complete=lambda: complete.append(reader.used))
    reader.begin(status, kind)
    for chunk in chunks:
        reader.feed(chunk)
    reader.close()
    assert complete in ([], [reader.used])
    return reader.used, len(complete)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_a_stream_is_counted_however_it_is_cut_into_chunks(size: int) -> None:
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert read(*chunks) == (Used(10, 30, 5, 0, model="big"), 1)


@pytest.mark.parametrize("kind", [b"delta", b"stop"])
def test_a_stream_that_is_cut_counts_as_far_as_it_got(kind: bytes) -> None:
    cut = STREAM[: STREAM.index(b"event: message_" + kind)]
    written = 1 if kind == b"delta" else 30
    assert read(cut) == (Used(10, written, 5, 0, at_least=kind == b"delta", model="big"), 0)


def test_a_limit_in_a_stream_counts_as_one() -> None:
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    assert read(STREAM[: STREAM.index(b"event: message_delta")], error)[0].limited


@pytest.mark.parametrize("status", [400, 429, 500, 529])
def test_a_failed_call_costs_nothing_for_certain(status: int) -> None:
    used, _ = read(STREAM, status=status)
    assert used == Used(limited=status in (429, 529))


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b'data: {"type":"message_start","message":[]}\n',
        b'{"usage":{"input_tokens":"x"}}',
        b"[" * 100_000,
        gzip.compress(STREAM),
        b"data:" + b'"message_delta"' * 200_000 + b"\n",
        b"x" * 17 * 2**20,
    ],
)
def test_anything_else_counts_nothing_and_says_so(kind: str, raw: bytes) -> None:
    assert read(raw, kind=kind) == (Used(at_least=True), 0)


def test_side_calls_are_told_from_the_dialogue() -> None:
    assert is_dialogue(body("hi"))
    assert is_dialogue(b"x" * (4 * 2**20 + 1))
    for raw in (b"", b"{}", b'{"tools":[]}', b'{"tools":1}', b"[" * 100_000, b'{"messages":"\\"tools\\":[{}]"}'):
        assert not is_dialogue(raw)


async def test_a_side_call_leaves_the_model_alone(api: ClaudeApi) -> None:
    proxy = Proxy(api.base_url)
    async with project_of(proxy) as project, project.post(b'{"model":"small","messages":[]}') as response:
        await response.read()
    assert proxy.used == [replace(STUB, model="")]


async def test_the_account_is_there_before_the_last_bytes(api: ClaudeApi) -> None:
    proxy = Proxy(api.base_url)
    async with project_of(proxy) as project, project.post(body("hi")) as response:
        await response.content.readuntil(b'"message_stop"')
        assert proxy.used == [STUB]
        await response.read()
    assert proxy.used == [STUB], "once"


@pytest.mark.parametrize("leave", [True, False])
async def test_what_became_of_a_call_is_unknown_where_no_answer_came(api: ClaudeApi, leave: bool) -> None:
    proxy = Proxy(api.base_url if leave else "http://127.0.0.1:1")
    async with project_of(proxy) as project:
        if leave:
            client = asyncio.create_task(project.error(body(script({"pre": 3600}))))
            await api.arrived(lambda request: request.main)
            client.cancel()
            await api.until(lambda: api.abandoned == 1, timeout=5)
        else:
            assert (await project.error(body("hi")))[0] == 502
    assert proxy.used == ([Used(at_least=True)] if leave else [])
