"""Runs metrics on sets of images, names their numbers, and sorts them into the files of the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from threedgp.evaluation.exhibits import rounded, write_exhibit
from threedgp.evaluation.reference import Inputs, Networks
from threedgp.metrics._declaration import MODEL, Measured, Metric, Value
from threedgp.runtime.atomic import write_json

FACTS = {"kimg": 0, "images_per_second": 40, "gpu_days": 50, "samples": 1000}
"""Numbers of the run beside the metrics, and their columns among those of `Value.column`."""


def load_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """The declarations of registered metrics, by name."""
    return {name: import_module(f"threedgp.metrics.{name}").METRIC for name in names}


@dataclass(frozen=True)
class Row:
    """One value of a metric, measured for several sets."""

    value: Value
    name: str
    network: str | None
    numbers: dict[str, float]
    """By set."""


def measure(
    metrics: Mapping[str, Metric], sets: Mapping[str, Inputs], shared: Inputs, networks: Networks, folder: Path
) -> list[Row]:
    """Run every metric on the model and its controls.

    Args:
        metrics: by name; those that lack an input are skipped.
        sets: inputs of every set; `model` is the measured one, the others are controls.
        shared: inputs that all sets have in common, unless a set has its own.
        folder: for files that metrics return.
    """
    rows = []
    for label, metric in metrics.items():
        common = {**shared, "label": lambda label=label: f"evaluate: {label}"}
        found, files = _run(metric, sets, common)
        for file, content in files.items():
            write_exhibit(folder / file, content)
        network = networks[metric.role].name if metric.role else None
        for index, value in enumerate(metric.values):
            numbers = {
                name: some[index]
                for name, some in found.items()
                if index < len(some) and (value.controls or name == MODEL)
            }
            defined = {name: number for name, number in numbers.items() if number is not None and np.isfinite(number)}
            if defined:
                rows.append(Row(value, value.name(network, metric.role), network, defined))
    return rows


def _run(
    metric: Metric, sets: Mapping[str, Inputs], common: Inputs
) -> tuple[dict[str, tuple[Any, ...]], Mapping[str, Any]]:
    """Numbers by set, and the files of the model; nothing if the model lacks an input."""
    measured = {
        name: {**common, **sets[name]}
        for name in (MODEL, *metric.controls)
        if name in sets and set(metric.needs) <= {*common, *sets[name]}
    }
    if MODEL not in measured:
        return {}, {}
    if metric.jointly:
        inputs = (
            common[need]() if need in common else {name: own[need]() for name, own in measured.items()}
            for need in metric.needs
        )
        found, files = _with_files(metric.function(*inputs))
    else:
        results = {
            name: _with_files(metric.function(*(inputs[need]() for need in metric.needs)))
            for name, inputs in measured.items()
        }
        found, files = {name: result.numbers for name, result in results.items()}, results[MODEL].files
    return {name: row if isinstance(row, tuple) else (row,) for name, row in found.items()}, files


def _with_files(result: Any) -> Measured:
    return result if isinstance(result, Measured) else Measured(result, {})


def split(rows: Sequence[Row], facts: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers of ``results/metrics.json`` in their order (with `facts`, see `FACTS`), and all others (controls,
    deviations) by name."""
    columns = [(FACTS[name], name, fact) for name, fact in facts.items()]
    details = {}
    for row in rows:
        for name, number in row.numbers.items():
            if name == MODEL and row.value.column is not None:
                columns.append((row.value.column, row.name, number))
            else:
                details[row.name if name == MODEL else f"{row.name}_{name}"] = number
    head = {name: number for _, name, number in sorted(columns)}
    return rounded(head), rounded(dict(sorted(details.items())))


def write_comparisons(folder: Path, rows: Sequence[Row], distilled: str | None) -> None:
    """Write ``comparisons.json``, from which the report draws a chart per value. `distilled` is the network from which
    training learned."""
    ordered = sorted(rows, key=lambda row: (np.inf if row.value.column is None else row.value.column, row.name))
    write_json(
        folder / "comparisons.json",
        [
            {
                "metric": row.name,
                "title": row.value.title.format(network=row.network),
                "description": _description(row, distilled),
                "better": row.value.better,
                "unit": row.value.unit,
                "values": rounded(row.numbers),
            }
            for row in ordered
            if row.value.better and MODEL in row.numbers
        ],
    )


def _description(row: Row, distilled: str | None) -> str:
    """The description of a value, and what limits its meaning on this network."""
    value, notes = row.value, [row.value.description]
    if value.published not in (None, value.key, row.name.removesuffix(value.suffix)):
        notes.append(f"The network is not that of the published metric, so this is no {value.published}.")
    if row.network and row.network == distilled:
        notes.append("Training distills features of the same network, which favors the model.")
    return " ".join(notes)
