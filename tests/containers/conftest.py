"""A gateway whose projects live in containers, and what one says to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import ContainerGateway


@pytest.fixture
def gateway(engine: None, tmp_path: Path) -> Iterator[ContainerGateway]:
    """Not started yet; it ends with the test, and leaves nothing."""
    with ContainerGateway(tmp_path) as made:
        yield made
