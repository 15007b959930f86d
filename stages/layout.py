"""Where the stages put things, relative to the root of the project; the same paths stand in ``dvc.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from threedgp.config import Config


@dataclass(frozen=True)
class Layout:
    """Paths of everything that passes between stages."""

    raw: Path
    prepared: Path
    features: Path
    selected: Path
    depth: Path
    embed: Path
    shards: Path
    model: Path = Path("results/model")
    training: Path = Path("results/training")
    metrics: Path = Path("results/metrics.json")
    evaluation: Path = Path("results/evaluation")
    renders: Path = Path("results/renders")
    report: Path = Path("results/report.html")

    @classmethod
    def of(cls, config: Config) -> Layout:
        """The layout for the data set of `config`."""
        names = ("raw", "prepared", "features", "selected", "depth", "embed", "shards")
        return cls(*(Path("data", config.dataset.name, name) for name in names))
