"""Figures of a set of experiments, drawn from the same records as its tables."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from threedgp.experiments.definitions import ExperimentSet, Figure, Scale
from threedgp.experiments.records import Record
from threedgp.experiments.tables import Measured
from threedgp.visual.charts import Curve, bar_chart, line_chart
from threedgp.visual.curves import KIMG

INK = "#6b7280"
"""Color of text in a file, which has contrast to light and to dark pages."""


def draw(figure: Figure, experiments: ExperimentSet, scale: Scale, measured: Measured) -> str | None:
    """The figure as SVG; None if none of its runs has been measured."""
    metric = experiments.columns[scale][0]
    runs = {experiments.runs[key].label: measured[key] for key in figure.runs if measured.get(key)}
    if figure.kind == "curves":
        curves = {label: curve for label, records in runs.items() if (curve := mean_curve(records, metric))}
        if not curves:
            return None
        svg = line_chart(figure.title, KIMG, metric, curves)
    else:
        values = {
            label: [record.metrics[metric] for record in records if metric in record.metrics]
            for label, records in runs.items()
        }
        bars = {label: statistics.mean(found) for label, found in values.items() if found}
        if not bars:
            return None
        spread = {label: statistics.stdev(values[label]) if len(values[label]) > 1 else 0.0 for label in bars}
        svg = bar_chart(f"{figure.title}: {metric}", bars, highlight=list(bars)[-1], spread=spread)
    return svg.replace("currentColor", INK)


def mean_curve(records: Sequence[Record], metric: str) -> Curve:
    """Pairs of `kimg` and the mean over seeds of the distance that training measured; empty if it measured none.

    Training measures with fewer samples, whose number it appends to the name.
    """
    points: dict[float, list[float]] = {}
    for record in records:
        for line in record.curves:
            for name, value in line.items():
                if name == f"distance/{metric}" or name.startswith(f"distance/{metric}_"):
                    points.setdefault(line["kimg"], []).append(value)
    return [(kimg, statistics.mean(values)) for kimg, values in sorted(points.items())]
