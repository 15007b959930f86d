"""Sets of experiments: files of runs, tables and figures, such as ``paper.yaml`` in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from threedgp.config.errors import explain
from threedgp.config.fields import Name, Section, Text
from threedgp.config.reading import read_yaml
from threedgp.runtime.errors import UserError

FOLDER = Path(__file__).parent

Scale = Literal["paper", "toy"]
Settings = dict[str, Any]
"""Values by dotted key, such as ``train.kimg: 12``."""


class Base(Section):
    """What all runs of a set have at one scale."""

    preset: Name
    settings: Settings = Field(default_factory=dict)


class Run(Section):
    """One configuration, trained once for each seed."""

    label: Text
    preset: Name | None = None
    """Preset at scale `paper`; null = the run exists at scale `toy` only."""
    settings: Settings = Field(default_factory=dict)
    """Differences from the preset at both scales."""
    toy_preset: Name | None = None
    """Preset at scale `toy`; null = that of the set."""
    toy: Settings | None = Field(default_factory=dict)
    """More differences at scale `toy`; null = the run exists at scale `paper` only."""


class Row(Section):
    """One system of a table."""

    system: Text
    key: Name | None = None
    """Name of the run, or of the file ``results/external/<key>.json``; null = there is no way to measure it here."""
    published: dict[str, float | Text] = Field(default_factory=dict)
    """Published numbers by their name in ``results/metrics.json``."""
    note: Text | None = None


class Table(Section):
    """Systems that were measured on the same data."""

    title: Text
    about: Text = ""
    """Protocol of the published numbers, and where they come from."""
    datasets: tuple[Text, ...] = ()
    """Data sets that are comparable with the published numbers, as ``name resolution``."""
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


class Figure(Section):
    """A chart of some runs: their distance over the length of training, or at its end."""

    name: Name
    title: Text
    kind: Literal["curves", "bars"]
    runs: Annotated[tuple[Name, ...], Field(min_length=1)]


class ExperimentSet(Section):
    """The content of one file."""

    about: Text
    toy: Base
    """Preset and settings of all runs at scale `toy`."""
    columns: dict[Scale, Annotated[tuple[Name, ...], Field(min_length=1)]]
    """Metrics of the tables; figures show the first one."""
    runs: dict[Name, Run]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...] = ()

    @model_validator(mode="after")
    def _figures_name_runs(self) -> ExperimentSet:
        for figure in self.figures:
            for run in figure.runs:
                if run not in self.runs:
                    raise ValueError(f"figures: there is no run '{run}', which figure '{figure.name}' shows")
        return self

    def scale(self, chosen: Scale | None) -> Scale:
        """The scale `chosen`, or the first one of this set. Raises UserError if it has no such scale."""
        if chosen and chosen not in self.columns:
            raise UserError(f"--scale: this set has scale '{next(iter(self.columns))}' only; leave the option out.")
        return chosen or next(iter(self.columns))

    def scales(self, run: Run) -> tuple[Scale, ...]:
        """The scales at which `run` exists."""
        there = {"paper": run.preset is not None, "toy": run.toy is not None}
        return tuple(scale for scale in self.columns if there[scale])


@dataclass(frozen=True)
class Job:
    """A run at one scale with one seed: a DVC experiment."""

    name: str
    """Name of the experiment."""
    preset: str
    settings: Settings
    """Differences from the preset, the seed included."""


def set_names() -> list[str]:
    """Names of the sets in this package."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load_set(name: str) -> ExperimentSet:
    """Read a set by its name, or from a file of one's own that ends in .yaml.

    Raises:
        UserError: there is no such set, or its file has a wrong key or value.
    """
    is_file = name.endswith(".yaml")
    if not is_file and name not in set_names():
        raise UserError(f"there is no set '{name}'; choose one of {', '.join(set_names())}, or name a .yaml file.")
    file = Path(name) if is_file else FOLDER / f"{name}.yaml"
    if not file.is_file():
        raise UserError(f"{file}: no such file; name a .yaml file, or one of the sets {', '.join(set_names())}.")
    values = read_yaml(file)
    try:
        return ExperimentSet.model_validate(values)
    except ValidationError as error:
        raise UserError(explain(error.errors()[0], ExperimentSet, str(file))) from None


def experiment_name(name: str, scale: Scale, key: str, seed: int) -> str:
    """Name of the DVC experiment of run `key` of the set `name`."""
    return "-".join([Path(name).stem, *(["toy"] if scale == "toy" else []), key, str(seed)])


def jobs(experiments: ExperimentSet, name: str, scale: Scale, seeds: list[int], only: list[str]) -> Iterator[Job]:
    """All runs of the set `name`, or those in `only`, at one scale: all runs of the first seed come first.

    Raises:
        UserError: there is no such run, or it does not exist at this scale.
    """
    runs = {key: run for key, run in experiments.runs.items() if scale in experiments.scales(run)}
    for key in only:
        if key not in experiments.runs:
            raise UserError(f"--only: set '{name}' has no run '{key}'; it has {', '.join(experiments.runs)}.")
        if key not in runs:
            raise UserError(f"--only: run '{key}' does not exist at scale '{scale}'; leave it out, or set --scale.")
    if not runs:
        raise UserError(f"--scale: set '{name}' has no run at scale '{scale}'; choose the other scale.")
    for seed in seeds:
        for key, run in runs.items():
            if only and key not in only:
                continue
            preset, settings = run.preset, {**run.settings, "train.seed": seed}
            if scale == "toy":
                preset = run.toy_preset or experiments.toy.preset
                settings = {**experiments.toy.settings, **settings, **run.toy}
            yield Job(experiment_name(name, scale, key, seed), preset, settings)
