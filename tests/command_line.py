"""What a command leaves, for tests that run one in their own process (fixture `threedgp`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """Result of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]
