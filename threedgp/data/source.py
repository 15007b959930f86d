"""The interface of all sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawPicture:
    """A picture as its source has it, or the reason why there is none."""

    id: str
    label: int
    rgb: NDArray[np.uint8] | None = None
    """`[H, W, 3]`"""
    depth: NDArray[np.float32] | None = None
    """`[H, W]`, larger = farther; scene units if the source knows them."""
    cameras: NDArray[np.float32] | None = None
    """`[8]`, fields as in `threedgp.camera.geometry.CAMERA_FIELDS`; only where the true camera is known."""
    error: str | None = None


class Source(Protocol):
    """Lists pictures and reads them, in any order and from several threads."""

    name: str
    class_names: list[str]

    def entries(self) -> pa.Table:
        """All pictures, sorted by id: columns `id`, `label`, and what the source needs to find them."""
        ...

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        """The pictures of some rows of `entries()`, in their order. One that cannot be used carries an error.

        Raises:
            UserError: a file is not the one that stage `download` listed.
        """
        ...
