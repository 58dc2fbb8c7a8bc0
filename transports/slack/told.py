"""What a message tells, whoever wrote it: its text, blocks, attachments and the names of its files. Pure.

People write texts. Alerts and the cards of other apps are often blocks or attachments alone, and their text, if there
is one, is a short stand-in for screen readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from transports.slack import text as slack_text

Names = Callable[[str], str]


def mapping(value: object) -> Mapping[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def string(value: object) -> str:
    """`value` where it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def listed(value: object) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a list."""
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def words(message: Mapping[str, Any], name: Names) -> str:
    """All that a message of somebody else says, as plain text."""
    raw = slack_text.plain(string(message.get("text")), name).strip()
    shown = blocks(message.get("blocks"), name) if message.get("bot_id") or not raw else ""
    parts = [shown or raw]
    for one in listed(message.get("attachments")):
        said = attachment(one, name)
        whose = string(one.get("author_name")) or "Somebody"
        parts.append(f"{whose} wrote:\n{said}" if one.get("is_share") and said else said)
    names = [string(one.get("name")) or string(one.get("title")) for one in listed(message.get("files"))]
    parts += [f"[file: {one}]" for one in names if one]
    return "\n".join(part for part in parts if part)


def author(message: Mapping[str, Any], name: Names) -> str:
    """Who wrote it, as people see it."""
    if app := string(mapping(message.get("bot_profile")).get("name")) or string(message.get("username")):
        return app
    user = string(message.get("user"))
    return name(user) if user else "A bot"


def attachment(told: Mapping[str, Any], name: Names) -> str:
    """What an attachment says: an alert's body, or a message that was forwarded."""
    link = string(told.get("title_link"))
    title = f"{string(told.get('title'))} ({link})" if link else string(told.get("title"))
    parts = [told.get("pretext"), title, told.get("text")]
    for field in listed(told.get("fields")):
        parts.append(": ".join(part for part in (string(field.get("title")), string(field.get("value"))) if part))
    found = [slack_text.plain(string(part), name).strip() for part in parts]
    if not string(told.get("text")):
        found.append(blocks(told.get("blocks"), name))
        within = (mapping(one.get("message")) for one in listed(told.get("message_blocks")))
        found += [blocks(one.get("blocks"), name) for one in within]
    return "\n".join(part for part in found if part) or slack_text.plain(string(told.get("fallback")), name).strip()


def blocks(told: object, name: Names) -> str:
    """What blocks say, one line for each part."""
    lines: list[str] = []
    for block in listed(told):
        lines += _block(block, name)
    return "\n".join(line for line in lines if line.strip())


def _block(block: Mapping[str, Any], name: Names) -> Iterator[str]:
    kind = block.get("type")
    if kind == "rich_text":
        for part in listed(block.get("elements")):
            yield from _rich(part, name)
        return
    yield _object(block.get("text"), name)
    yield from (_object(one, name) for one in listed(block.get("fields")))
    if kind == "context":
        yield " ".join(part for part in (_object(one, name) for one in listed(block.get("elements"))) if part)
    elif kind in ("image", "video"):
        yield _object(block.get("title"), name) or string(block.get("alt_text"))
    elif kind == "table":
        rows = block.get("rows")
        for row in rows if isinstance(rows, list) else []:
            yield " | ".join(_cell(one, name) for one in listed(row))


def _object(told: object, name: Names) -> str:
    """A text object, or the bare text that a Markdown block has."""
    if isinstance(told, str):
        return told.strip()
    one = mapping(told)
    raw = string(one.get("text"))
    return (raw if one.get("type") == "plain_text" else slack_text.plain(raw, name)).strip()


def _cell(told: Mapping[str, Any], name: Names) -> str:
    if told.get("type") == "rich_text":
        return " ".join(line for part in listed(told.get("elements")) for line in _rich(part, name))
    return string(told.get("text"))


def _rich(part: Mapping[str, Any], name: Names) -> Iterator[str]:
    kind = part.get("type")
    if kind == "rich_text_list":
        for item in listed(part.get("elements")):
            yield f"- {_run(item, name)}"
        return
    said = _run(part, name)
    yield f"```\n{said}\n```" if kind == "rich_text_preformatted" else said


def _run(part: Mapping[str, Any], name: Names) -> str:
    return "".join(_element(one, name) for one in listed(part.get("elements")))


def _element(told: Mapping[str, Any], name: Names) -> str:
    match told.get("type"):
        case "user":
            return f"@{name(string(told.get('user_id')))}"
        case "channel":
            return f"#{string(told.get('channel_id'))}"
        case "emoji":
            return f":{string(told.get('name'))}:"
        case "broadcast":
            return f"@{string(told.get('range'))}"
        case "link":
            url, label = string(told.get("url")), string(told.get("text"))
            return f"{label} ({url})" if label and label != url else url
        case _:
            return string(told.get("text"))
