"""Files, both ways: people's files are fetched with the bot's token, and only from Slack."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from gateway.chat import Attachment, OutgoingFile
from gateway.errors import DeliveryRefused, TransportDown
from transports.slack import errors
from transports.slack.api import Api
from transports.slack.config import SlackConfig
from transports.slack.told import mapping, string

#: Seconds for one file.
TRANSFER_S = 120.0


async def download(api: Api, config: SlackConfig, file: Attachment, into: Path, most: int) -> None:
    """Write the file that an `Attachment` made by `events` stands for to `into`.

    Raises:
        TransportDown: not now.
        DeliveryRefused: it is gone, has more than `most` bytes, or is not stored at Slack.
    """
    url = await _address(api, file)
    if not is_slacks(url, config.api_base_url):
        raise DeliveryRefused("it is not stored at Slack")
    if file.size > most:
        raise DeliveryRefused(f"it has more than {most // 2**20} MiB")
    headers = {"Authorization": f"Bearer {config.bot_token}"}
    with errors.translated():
        async with (
            asyncio.timeout(TRANSFER_S),
            # A redirect would carry the token to wherever it points.
            api.session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            _check(response, file)
            data = bytearray()
            async for chunk in response.content.iter_chunked(2**16):
                data += chunk
                if len(data) > most:
                    response.close()
                    raise DeliveryRefused(f"it has more than {most // 2**20} MiB")
    await asyncio.to_thread(into.write_bytes, data)


async def upload(api: Api, file: OutgoingFile) -> str:
    """Upload a file to Slack, where nobody sees it yet; returns its id.

    Raises:
        TransportDown: not now.
        DeliveryRefused: it is gone from here, or Slack does not take it.
    """
    try:
        size = (await asyncio.to_thread(file.path.stat)).st_size
        content = await asyncio.to_thread(file.path.open, "rb")
    except OSError as error:
        raise DeliveryRefused(f"{file.name} cannot be read: {error.strerror}") from error
    with content:
        data, _ = await api.call(api.client.files_getUploadURLExternal(filename=file.name, length=size))
        with errors.translated():
            async with (
                asyncio.timeout(TRANSFER_S),
                api.session.post(string(data.get("upload_url")), data=content, allow_redirects=False) as response,
            ):
                status = response.status
    if status == 429 or status >= 500:
        raise TransportDown(f"Slack cannot take files now ({status})")
    if status != 200:
        raise DeliveryRefused(f"Slack does not accept {file.name} ({status})")
    return string(data.get("file_id"))


def is_slacks(url: str, api_base_url: str) -> bool:
    """Whether the bot's token may be shown at an address: Slack's own, or where the Web API is."""
    try:
        there, api = urlsplit(url), urlsplit(api_base_url)
        if (there.scheme, there.hostname, there.port) == (api.scheme, api.hostname, api.port):
            return bool(there.hostname)
        host, port = there.hostname or "", there.port
    except ValueError:
        return False
    return there.scheme == "https" and port in (None, 443) and (host == "slack.com" or host.endswith(".slack.com"))


async def _address(api: Api, file: Attachment) -> str:
    told = json.loads(file.ref)
    if url := string(told.get("url")):
        return url
    # In a channel that is shared with another workspace, events name files only by their id.
    data, _ = await api.call(api.client.files_info(file=string(told.get("id"))))
    found = mapping(data.get("file"))
    return string(found.get("url_private_download")) or string(found.get("url_private"))


def _check(response: aiohttp.ClientResponse, file: Attachment) -> None:
    if response.status == 429 or response.status >= 500:
        raise TransportDown(f"Slack cannot give out files now ({response.status})")
    if response.status in (301, 302, 303, 307, 308):
        raise DeliveryRefused("Slack redirects us elsewhere; does the app have the scope files:read?")
    if response.status != 200:
        raise DeliveryRefused(f"Slack does not give it out ({response.status})")
    if response.content_type == "text/html" and "html" not in file.mime:
        raise DeliveryRefused("Slack asks for a login; does the app have the scope files:read?")
