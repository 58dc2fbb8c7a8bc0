"""What a project's container may use, where an operator wants that to differ from the configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config.sections import amount_of_memory
from gateway.errors import UserError

_UNITS = ("k", "m", "g", "t")
_MOST_CPUS, _FEWEST_PIDS, _MOST_PIDS = 1024.0, 64, 10**6
#: What takes one back.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Own:
    """Bytes, processors and processes. 0: as the configuration says."""

    memory: int = 0
    cpus: float = 0.0
    pids: int = 0

    def __str__(self) -> str:
        """As it is stored, and typed: `memory=8g cpus=4`."""
        parts = [f"memory={_spoken(self.memory)}"] if self.memory else []
        parts += [f"cpus={self.cpus:g}"] if self.cpus else []
        parts += [f"pids={self.pids}"] if self.pids else []
        return " ".join(parts)


def read(text: str) -> Own:
    """What is stored."""
    return changed(Own(), dict(part.split("=", 1) for part in text.split()))


def changed(own: Own, asked: Mapping[str, str]) -> Own:
    """With some of it as somebody typed it; `default` takes one back. Raises UserError."""
    given = {name: "" if text.lower() == DEFAULT else text for name, text in asked.items()}
    return Own(
        own.memory if (memory := given.get("memory")) is None else _memory(memory),
        own.cpus if (cpus := given.get("cpus")) is None else _cpus(cpus),
        own.pids if (pids := given.get("pids")) is None else _pids(pids),
    )


def _memory(text: str) -> int:
    if not text:
        return 0
    try:
        amount = amount_of_memory(text)
    except ValueError as error:
        raise UserError(f"memory {error}.") from None
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if amount > there:
        raise UserError(
            f"This host has {_spoken(there)} of memory in all: `memory={_spoken(there // 2)}`, for example."
        )
    return amount


def _cpus(text: str) -> float:
    if not text:
        return 0.0
    try:
        count = float(text)
    except ValueError:
        count = 0.0
    if not 0.01 <= count <= _MOST_CPUS:
        raise UserError("cpus must be a number of processors, e.g. `cpus=4` or `cpus=0.5`.")
    return count


def _pids(text: str) -> int:
    if not text:
        return 0
    if not text.isdecimal() or not _FEWEST_PIDS <= int(text) <= _MOST_PIDS:
        raise UserError(f"pids must be a number of processes, at least {_FEWEST_PIDS}, e.g. `pids=2048`.")
    return int(text)


def _spoken(amount: int) -> str:
    """Bytes in the largest unit that is whole."""
    unit = max(n for n in range(len(_UNITS) + 1) if amount % 1024**n == 0)
    return f"{amount // 1024**unit}{_UNITS[unit - 1] if unit else ''}"
