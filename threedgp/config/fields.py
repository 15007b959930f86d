"""Types of settings: ranges, counts, durations."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from threedgp.config.errors import shown


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; a kernel size must be odd")
    return value


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"{value} is not a power of two")
    return value


def _without_control(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value):
        raise ValueError(f"{value!r} has control characters; remove them")
    return value


MAX_CLASSES = 100_000
"""A larger label is not a class number."""
MIN_IMAGES = 8
"""Images of a data set: in an evaluation, each half of them must have a third nearest neighbor."""
MAX_NUMBER = 1e9
"""Maximum of numbers without a natural one: their products do not overflow in float32."""

Integer = Annotated[int, Field(strict=True)]
"""Refuses "24", 24.0 and true. Every type below has an upper bound, so that sizes that no machine has are refused."""
Count = Annotated[Integer, Field(ge=1, le=10**8)]
"""Number of images, scenes or steps."""
ShardRows = Annotated[Integer, Field(ge=1, le=2**20)]
BatchSize = Annotated[Integer, Field(ge=1, le=2**16)]
Few = Annotated[Integer, Field(ge=1, le=1024)]
"""Number of processes, rows of a grid, and the like."""
Width = Annotated[Integer, Field(ge=1, le=2**13)]
"""Channels or units of a layer."""
Layers = Annotated[Integer, Field(ge=1, le=32)]
Pixels = Annotated[Integer, Field(ge=1, le=4096)]
"""Side of an image."""
PowerOfTwo = Annotated[Pixels, Field(ge=4), AfterValidator(_power_of_two)]
OddInt = Annotated[Integer, Field(ge=1, le=63), AfterValidator(_odd)]
Seed = Annotated[Integer, Field(ge=0, le=2**62)]
"""NumPy accepts no negative seed and PyTorch none of more than 64 bits; the margin is for seeds derived from it."""
Positive = Annotated[float, Field(gt=0, le=MAX_NUMBER)]
NonNegative = Annotated[float, Field(ge=0, le=MAX_NUMBER)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[float, Field(gt=0, le=1000)]
"""Distance in scene units."""
_Bound = Annotated[float, Field(ge=-360, le=360)]
Range = Annotated[tuple[_Bound, _Bound], Field(description="[min, max]")]
Name = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, Field(max_length=4096), AfterValidator(_without_control)]


def _duration(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else shown(value)
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number <= (100 if text.endswith("%") else MAX_NUMBER):
        raise ValueError(
            f"{shown(value)} is not a duration; use thousands of images (5000) or a percentage of the run (20%)"
        )
    return text


Duration = Annotated[str, BeforeValidator(_duration)]
"""Length of a schedule: thousands of images (``5000``) or a percentage of the whole run (``20%``)."""


class Section(BaseModel):
    """A section of ``params.yaml``: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
