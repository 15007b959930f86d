"""Types of settings: ranges, counts, durations."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; a kernel size must be odd")
    return value


Range = Annotated[tuple[float, float], Field(description="[min, max]")]
PositiveInt = Annotated[int, Field(ge=1)]
OddInt = Annotated[int, Field(ge=1), AfterValidator(_odd)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**62)]
"""NumPy accepts no negative seed and PyTorch none of more than 64 bits; the margin is for seeds derived from it."""


def _power_of_two(value: int) -> int:
    if value < 4 or value & (value - 1):
        raise ValueError(f"{value} is not a power of two of at least 4")
    return value


PowerOfTwo = Annotated[int, AfterValidator(_power_of_two), Field(ge=4)]


def _duration(value: Any) -> str:
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if number < 0 or (text.endswith("%") and number > 100):
        raise ValueError(
            f"'{value}' is not a duration; use thousands of images (5000) or a percentage of the run (20%)"
        )
    return text


Duration = Annotated[str, BeforeValidator(_duration)]
"""Length of a schedule: thousands of images (``5000``) or a percentage of the whole run (``20%``)."""


class Section(BaseModel):
    """A section of ``params.yaml``: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
