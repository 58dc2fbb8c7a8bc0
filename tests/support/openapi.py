"""Twilio's own description of its API (OpenAPI): whether a request is one that it knows. The shape only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FORM = "application/x-www-form-urlencoded"


class OpenApi:
    """One document: a host, its paths, what can be posted there."""

    def __init__(self, document: Path) -> None:
        self._document = _read(document)

    def complaints(self, method: str, url: str, fields: Sequence[tuple[str, str]] = ()) -> list[str]:
        """What is wrong with a request, by the document; nothing, if it is as described."""
        there = urlsplit(url)
        for path, item in self._document["paths"].items():
            names = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(path))
            if (found := re.fullmatch(names, there.path)) and method.lower() in item:
                return [
                    *self._host(item, f"{there.scheme}://{there.netloc}"),
                    *self._parameters(item[method.lower()], found.groupdict()),
                    *self._fields(item[method.lower()], fields),
                ]
        return [f"there is no {method} {there.path}"]

    def words(self, schema: str) -> list[str]:
        """What a value can be that has a closed set of them."""
        return list(self._document["components"]["schemas"][schema]["enum"])

    def _host(self, item: Mapping[str, Any], host: str) -> list[str]:
        servers = [server["url"] for server in item["servers"]]
        return [] if host in servers else [f"it is at {servers}, not at {host}"]

    def _parameters(self, operation: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
        return [
            complaint
            for one in operation.get("parameters", [])
            if one["in"] == "path"
            for complaint in self._value(one["name"], one["schema"], values[one["name"]])
        ]

    def _fields(self, operation: Mapping[str, Any], fields: Sequence[tuple[str, str]]) -> list[str]:
        if "requestBody" not in operation:
            return [f"{name} is not wanted" for name, _ in fields]
        schema = self._resolved(operation["requestBody"]["content"][FORM]["schema"])
        names = {name for name, _ in fields}
        found = [f"{name} is missing" for name in schema.get("required", []) if name not in names]
        for name, value in fields:
            known = schema["properties"].get(name)
            found += [f"{name} is unknown"] if known is None else self._value(name, known, value)
        return found

    def _value(self, name: str, schema: Mapping[str, Any], value: str) -> list[str]:
        schema = self._resolved(schema)
        if schema.get("type") == "array":
            return self._value(name, schema["items"], value)
        fits = (
            re.search(schema.get("pattern", ""), value)
            and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
            and value in schema.get("enum", [value])
            and (schema.get("format") != "uri" or urlsplit(value).scheme in ("http", "https"))
        )
        return [] if fits else [f"{name} cannot be {value!r}"]

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in schema:
            return schema
        return dict(self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])


@cache
def _read(document: Path) -> dict[str, Any]:
    return dict(json.loads(document.read_text()))
