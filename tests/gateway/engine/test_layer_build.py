"""What a build says, as people and the log get it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.engine.docker.build_proxy import Way
from gateway.engine.docker.client import Client
from gateway.engine.docker.layer_build import LayerBuild
from gateway.errors import BuildFailed
from stacks.images import Layer


class Says:
    """An engine whose builds say what they are told to."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = messages

    async def build(self, arguments: dict[str, Any], hear: Callable[[dict[str, Any]], None]) -> None:
        for message in self._messages:
            hear(message)


async def test_a_failure_is_words_without_colours_and_passwords(tmp_path: Path) -> None:
    engine = Says(
        {"stream": "Step 1/1 : RUN pip install x\n"},
        {"stream": "\x1b[91mWARNING: no way to http://ana:pw@proxy.example.org\n\x1b[0m"},
        {"stream": "\x1b[91mERROR: not found\n\x1b[0m"},
        {"error": "The command returned a non-zero code: 1"},
    )
    log = tmp_path / "build.log"
    layer = Layer(name="base", tag="huskies-base:1", dockerfile="FROM x\n", arguments={}, files={})
    build = LayerBuild(cast("Client", engine), log, layer, lambda _: None, way=Way(), left_s=None)
    with pytest.raises(BuildFailed) as failure:
        await build.run()
    assert str(failure.value) == (
        "building base failed at step 1 of 1 (RUN pip install x): The command returned a non-zero code: 1. "
        "The last lines:\n```\nStep 1/1 : RUN pip install x\n"
        "WARNING: no way to http://[secret]@proxy.example.org\nERROR: not found\n```"
    )
    assert log.read_text().splitlines()[1:] == [
        "Step 1/1 : RUN pip install x",
        "WARNING: no way to http://[secret]@proxy.example.org",
        "ERROR: not found",
        "The command returned a non-zero code: 1",
    ]


async def test_what_comes_letter_by_letter_is_lines(tmp_path: Path) -> None:
    """curl writes its errors so, and the engine hands on each write, painted."""
    said = "curl: (7) no way to http://ana:pw@a.example: Could not connect to server\n"
    engine = Says(
        {"stream": "Step 1/2 : FROM x"},
        {"stream": "\n"},
        {"stream": "Step 2/2 : RUN curl\n"},
        *({"stream": f"\x1b[91m{letter}\x1b[0m"} for letter in said),
        {"stream": "50 %\r"},
        {"stream": "100 %\r\n"},
        {"stream": "no end"},
        {"stream": "Removing intermediate container 1\n"},
        {"stream": "nor here"},
        {"error": "The command returned a non-zero code: 7"},
    )
    log = tmp_path / "build.log"
    layer = Layer(name="base", tag="huskies-base:1", dockerfile="FROM x\n", arguments={}, files={})
    build = LayerBuild(cast("Client", engine), log, layer, lambda _: None, way=Way(), left_s=None)
    with pytest.raises(BuildFailed, match="builds do not reach the network"):
        await build.run()
    assert log.read_text().splitlines()[1:] == [
        "Step 1/2 : FROM x",
        "Step 2/2 : RUN curl",
        "curl: (7) no way to http://[secret]@a.example: Could not connect to server",
        "50 %",
        "100 %",
        "no end",
        "Removing intermediate container 1",
        "nor here",
        "The command returned a non-zero code: 7",
    ]
