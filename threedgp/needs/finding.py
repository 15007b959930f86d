"""One line of what `threedgp doctor` says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that was looked at."""

    what: str
    found: str
    fine: bool
    needed: bool
    """Whether the pipeline with these settings cannot do without."""
    advice: str = ""
