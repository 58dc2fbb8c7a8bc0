"""Files both ways: only what is meant can be fetched, from us and by us. FAULTS 31."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from gateway.chat import Attachment, Conversation, OutgoingFile, Reply
from gateway.errors import DeliveryRefused
from tests.support.twilio_server import ACCOUNT, ANA, PUBLIC_URL, TwilioServer
from tests.support.whatsapp_bot import Nobody, WhatsAppBot
from transports.whatsapp.media import Shelf

HERE = Conversation("whatsapp", ANA)


@pytest.fixture
async def server() -> AsyncIterator[TwilioServer]:
    async with TwilioServer() as made:
        yield made


@pytest.fixture
async def bot(server: TwilioServer) -> AsyncIterator[WhatsAppBot]:
    async with WhatsAppBot(server) as made:
        await made.start(Nobody())
        yield made


def outgoing(tmp_path: Path, name: str, mime: str, content: bytes = b"content") -> OutgoingFile:
    path = tmp_path / "0123"
    path.write_bytes(content)
    return OutgoingFile(path, name, mime, len(content))


async def test_a_file_goes_out(bot: WhatsAppBot, server: TwilioServer, tmp_path: Path) -> None:
    await bot.transport.send_file(HERE, outgoing(tmp_path, "a b.pdf", "application/pdf"), Reply("**look**"), "key")
    sent = server.sent[0]
    assert sent.media == (b"content", "application/pdf", 'inline; filename="a_b.pdf"')
    assert sent.text == "*look*"
    async with server._http.head(server.target + server.posts[0]["MediaUrl"].removeprefix(PUBLIC_URL)) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pdf"), "Twilio looks first"
    await bot.transport.send_file(HERE, outgoing(tmp_path, 'x";\r\n.py', "text/x-python"), Reply(""), "other")
    assert server.sent[1].media == (b"content", "text/plain; charset=utf-8", 'inline; filename="x_.py"')
    assert "Body" not in server.posts[1]


async def test_only_what_was_sent_can_be_fetched(bot: WhatsAppBot, server: TwilioServer, tmp_path: Path) -> None:
    await bot.transport.send_file(HERE, outgoing(tmp_path, "a.pdf", "application/pdf"), Reply(""), "other")
    url = server.posts[0]["MediaUrl"].removeprefix(PUBLIC_URL)
    name, until, signature = url.removeprefix("/media/").split(".")
    statuses = {}
    for path in [
        url,
        f"/media/{name}.{until}.{'0' * 64}",
        f"/media/{name}.{int(until) + 1}.{signature}",
        f"/media/{'0' * 32}.{until}.{signature}",
        "/media/..%2f..%2fetc%2fpasswd",
        "/media/%2e%2e/%2e%2e/etc/passwd",
        "/media/",
        "/media/x.y.%ff",
        "/media/%C2%B2",
    ]:
        async with server._http.get(URL(server.target + path, encoded=True)) as answer:
            statuses[path] = answer.status
    assert list(statuses.values()) == [200] + [404] * 8
    (tmp_path / "0123").unlink()
    async with server._http.get(server.target + url) as answer:
        assert answer.status == 404


async def test_an_address_ends(server: TwilioServer, tmp_path: Path) -> None:
    async with WhatsAppBot(server, media_s=-10) as bot:
        shelf: Shelf = bot.transport._made()._shelf
        url = shelf.lend(outgoing(tmp_path, "a.pdf", "application/pdf"))
        async with server._http.get(server.target + url.removeprefix(PUBLIC_URL)) as answer:
            assert answer.status == 410


async def test_a_file_that_whatsapp_would_not_take(bot: WhatsAppBot, server: TwilioServer, tmp_path: Path) -> None:
    big = outgoing(tmp_path, "a.png", "image/png", b"x" * (5 * 2**20 + 1))
    with pytest.raises(DeliveryRefused, match="5,242,880"):
        await bot.transport.send_file(HERE, big, Reply(""), "other")
    assert server.posts == []


async def fetch(bot: WhatsAppBot, server: TwilioServer, into: Path, most: int = 1000, **changes: str) -> bytes:
    fields = server.offer(b"\x89PNG" + b"x" * 500, "image/png")
    ref, mime = changes.get("ref", fields["MediaUrl0"]), changes.get("mime", "image/png")
    await bot.transport.fetch(Attachment("a.png", mime, 0, ref), into, most)
    return into.read_bytes()


async def test_a_file_comes_in(bot: WhatsAppBot, server: TwilioServer, tmp_path: Path) -> None:
    assert len(await fetch(bot, server, tmp_path / "in")) == 504
    assert server.media_requests[0][1], "with the account's credentials"


async def test_a_file_that_is_not_what_was_said(bot: WhatsAppBot, server: TwilioServer, tmp_path: Path) -> None:
    """FAULTS 31: size and type."""
    with pytest.raises(DeliveryRefused, match="more than 503"):
        await fetch(bot, server, tmp_path / "in", most=503)
    with pytest.raises(DeliveryRefused, match="image/png"):
        await fetch(bot, server, tmp_path / "in", mime="image/jpeg")
    fields = server.offer(b"", "image/png")
    server.media.clear()
    with pytest.raises(DeliveryRefused, match="404"):
        await fetch(bot, server, tmp_path / "in", ref=fields["MediaUrl0"][:-1])


async def test_only_the_accounts_media_are_fetched(bot: WhatsAppBot, server: TwilioServer, tmp_path: Path) -> None:
    """FAULTS 31: addresses of others are not even asked."""
    root = f"/2010-04-01/Accounts/{ACCOUNT}"
    for ref in [
        "http://127.0.0.1:1/x",
        "file:///etc/passwd",
        f"http://localhost:{server.port}{root}/Messages/MM/Media/ME",
        f"http://user@127.0.0.1:{server.port}@evil.example{root}/Messages/x",
        f"{server.url}/other",
        f"{server.url}{root}/../../../x",
        f"{server.url}/2010-04-01/Accounts/AC{'9' * 32}/Messages/MM/Media/ME",
        "",
        "//evil.example/x",
    ]:
        with pytest.raises(DeliveryRefused):
            await fetch(bot, server, tmp_path / "in", ref=ref)
    assert server.media_requests == []


async def test_a_redirect_gets_no_credentials(server: TwilioServer, tmp_path: Path) -> None:
    """FAULTS 31: to Twilio's own store it is followed, to anywhere else it is not."""
    async with TwilioServer() as store, WhatsAppBot(server, media_origins=(f"{store.url}/media/",)) as bot:
        await bot.start(Nobody())
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/MM/Media/ME"
        store.media["/media/x"] = store.media["/elsewhere"] = (b"x", "image/png")
        server.media[path] = f"{store.url}/media/x"
        assert await fetch(bot, server, tmp_path / "in", ref=server.url + path) == b"x"
        assert (server.media_requests, store.media_requests) == ([(path, True)], [("/media/x", False)])
        for away in (f"{store.url}/elsewhere", f"{store.url}/media/../elsewhere", "http://127.0.0.1:1/", "file:///etc"):
            server.media[path] = away
            with pytest.raises(DeliveryRefused, match="away from Twilio"):
                await fetch(bot, server, tmp_path / "in", ref=server.url + path)
        server.media[path] = f"{server.url}{path}"
        with pytest.raises(DeliveryRefused, match="nowhere"):
            await fetch(bot, server, tmp_path / "in", ref=server.url + path)
        assert len(store.media_requests) == 1
