"""Files, both ways: through the homeserver's media repository, encrypted where the room is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nio.crypto.attachments import decrypt_attachment, encrypt_attachment
from nio.exceptions import EncryptionError
from nio.responses import ErrorResponse

from gateway.chat import Attachment, OutgoingFile
from gateway.errors import DeliveryRefused
from transports.matrix import errors
from transports.matrix.client import Client

#: Seconds for one file.
TRANSFER_S = 120.0
#: Bytes; used where the homeserver does not name its limit.
_USUAL_LIMIT = 50 * 2**20
_KINDS = {"image": "m.image", "audio": "m.audio", "video": "m.video"}
#: Since downloads require a login, and before.
_DOWNLOAD = ("/_matrix/client/v1/media/download/{}", "/_matrix/media/v3/download/{}")
_CONFIG = ("/_matrix/client/v1/media/config", "/_matrix/media/v3/config")


async def upload(client: Client, file: OutgoingFile, caption: str, *, encrypted: bool) -> dict[str, Any]:
    """Put a file into the media repository; returns the content of the message that shows it.

    Raises:
        TransportDown: not now.
        DeliveryRefused: the homeserver does not take it.
    """
    limit = await _limit(client)
    if file.size > limit:
        raise DeliveryRefused(f"{file.name} has {file.size:,} bytes; the homeserver takes at most {limit:,}")
    data, keys = await asyncio.to_thread(_read, file.path, encrypted)
    kind = "application/octet-stream" if encrypted else file.mime
    name = "" if encrypted else f"?filename={quote(file.name)}"
    uri = str((await _post(client, f"/_matrix/media/v3/upload{name}", data, kind)).get("content_uri", ""))
    content: dict[str, Any] = {
        "msgtype": _KINDS.get(file.mime.partition("/")[0], "m.file"),
        "body": caption or file.name,
        "filename": file.name,
        "info": {"mimetype": file.mime, "size": file.size},
        "m.mentions": {},
    }
    return content | ({"file": {**keys, "url": uri, "mimetype": file.mime}} if encrypted else {"url": uri})


async def download(client: Client, file: Attachment, into: Path, most: int) -> None:
    """Write the file that an `Attachment` made by `found` stands for to `into`.

    Raises:
        TransportDown: not now.
        DeliveryRefused: it is gone, has more than `most` bytes, or is not what its message says.
    """
    told = json.loads(file.ref)
    path = str(told["url"]).removeprefix("mxc://")
    data = await _get(client, path, most)
    if "key" in told:
        try:
            data = await asyncio.to_thread(decrypt_attachment, data, told["key"], told["hash"], told["iv"])
        except (EncryptionError, ValueError, TypeError) as error:
            raise DeliveryRefused("it could not be decrypted") from error
    await asyncio.to_thread(into.write_bytes, data)


def found(content: Mapping[str, Any]) -> Attachment | None:
    """The file that a message's content names; None where it names none that could be fetched."""
    sealed, info = content.get("file"), content.get("info")
    info = info if isinstance(info, dict) else {}
    told: dict[str, Any] = {"url": content.get("url")}
    if isinstance(sealed, dict):
        key, hashes = sealed.get("key"), sealed.get("hashes")
        if not isinstance(key, dict) or not isinstance(hashes, dict):
            return None
        told = {"url": sealed.get("url"), "key": key.get("k"), "hash": hashes.get("sha256"), "iv": sealed.get("iv")}
    if not all(isinstance(value, str) for value in told.values()) or not told["url"].startswith("mxc://"):
        return None
    name = content.get("filename") or content.get("body")
    mime, size = info.get("mimetype"), info.get("size")
    return Attachment(
        name=name if isinstance(name, str) and name else "file",
        mime=mime if isinstance(mime, str) else "application/octet-stream",
        size=size if isinstance(size, int) and size >= 0 else 0,
        ref=json.dumps(told),
    )


def _read(path: Path, encrypted: bool) -> tuple[bytes, dict[str, Any]]:
    data = path.read_bytes()
    if not encrypted:
        return data, {}
    parts = list(encrypt_attachment(data))
    keys: dict[str, Any] = parts[-1]
    return b"".join(parts[:-1]), keys


async def _limit(client: Client) -> int:
    for path in _CONFIG:
        status, answer, _ = await client.raw("GET", path, {})
        if status < 300 and isinstance(answer, dict):
            told = answer.get("m.upload.size")
            return told if isinstance(told, int) else _USUAL_LIMIT
    return _USUAL_LIMIT


async def _post(client: Client, path: str, data: bytes, kind: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {client.access_token}", "Content-Type": kind}
    with errors.translated():
        async with asyncio.timeout(TRANSFER_S):
            response = await client.send("POST", path, data, headers)
            answer = await _told(response)
    if response.status >= 300 or not isinstance(answer, dict):
        raise _refusal(answer, response)
    return answer


async def _get(client: Client, path: str, most: int) -> bytes:
    headers = {"Authorization": f"Bearer {client.access_token}"}
    place = "/".join(quote(part, safe="") for part in path.split("/", 1))
    for pattern in _DOWNLOAD:
        with errors.translated():
            async with asyncio.timeout(TRANSFER_S):
                response = await client.send("GET", pattern.format(place), None, headers)
                if response.status < 300:
                    return await _body(response, most)
                answer = await _told(response)
        if not (isinstance(answer, dict) and answer.get("errcode") == "M_UNRECOGNIZED"):
            break
    raise _refusal(answer, response)


async def _body(response: Any, most: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        data += chunk
        if len(data) > most:
            response.close()
            raise DeliveryRefused(f"it has more than {most // 2**20} MiB")
    return bytes(data)


async def _told(response: Any) -> object:
    """The JSON of a response; None where it is not JSON: a proxy in front of the homeserver speaks HTML."""
    try:
        return json.loads(await response.text(errors="replace"))
    except ValueError:
        return None


def _refusal(answer: object, response: Any) -> Exception:
    error = ErrorResponse.from_dict(answer if isinstance(answer, dict) else {})
    error.transport_response = response
    return errors.from_response(error)
