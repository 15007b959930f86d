"""Files on the servers of these tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

DATA = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
HALF = 150_000

Fetch = Callable[..., bytes]
"""The type of the fixture `get`: downloads a file and returns its content."""


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
