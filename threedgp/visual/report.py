"""The report: one HTML page that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

import base64
import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from threedgp.errors import UserError
from threedgp.visual.charts import bar_chart, histogram_chart, line_chart
from threedgp.visual.published import IMAGENET_256
from threedgp.visual.video import MIME, SUFFIX

PICTURES = ("samples", "depth", "real", "views")
MODEL = "model"
SETS = {
    MODEL: "this model",
    "untrained": "the same model untrained",
    "other_half": "other half of the real set",
    "blurred": "real set, blurred",
    "background": "backgrounds without objects",
    "flat": "a flat plane",
}
"""What is compared, in the order of the charts, and its name for people."""


class Reading(NamedTuple):
    """How a metric is introduced to people."""

    title: str
    lower_is_better: bool
    how: str


def reading(metric: str, distilled: bool) -> Reading:
    """Title of a metric, and one line on how to read it."""
    if metric.startswith("fd_"):
        network = metric.removeprefix("fd_")
        how = f"Compares what {network} sees in the pictures; the network is not that of FID, so this is no FID."
        if distilled:
            how += " Training distils features of the same network, which flatters the model here."
        return Reading(f"Fréchet distance on {network} features", True, how)
    return {
        "swd": Reading(
            "Sliced Wasserstein distance of pictures",
            True,
            "Compares texture and structure at every scale with real pictures, by no network. A perfect model reaches "
            "the other half of the real set; one that paints scenery and no objects stays at the backgrounds.",
        ),
        "depth_swd": Reading(
            "Sliced Wasserstein distance of depth",
            True,
            "The same comparison between rendered and true depth maps, each set scaled by its own spread. "
            "A model without shape scores like the flat plane.",
        ),
        "nfs": Reading(
            "Non-flatness score",
            False,
            "How many of 64 depth levels a frontal view fills: a flat plane scores 1, the most is 64. It shows "
            "collapsed geometry; noise scores high too.",
        ),
    }[metric]


@dataclass(frozen=True)
class Sources:
    """All that the page is made of."""

    title: str
    facts: Mapping[str, str]
    """What was run, by name."""
    parameters: Mapping[str, Any]
    """Settings by dotted key; values may be nested."""
    metrics: Mapping[str, Any]
    """Content of metrics.json."""
    evaluation: Path
    renders: Path
    training: Path
    rejects: Mapping[str, Counter[str]]
    """By stage: how many pictures were left out, by reason."""


def build_report(sources: Sources) -> str:
    """The page as HTML. A function of its sources alone.

    Raises:
        UserError: a file of the sources is missing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("threedgp.visual", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    flight = sources.renders / f"flight{SUFFIX}"
    cameras = _read_cameras(sources.evaluation / "cameras.tsv")
    return environment.get_template("report.html.j2").render(
        sources=sources,
        pictures={name: _embed(sources.renders / f"{name}.png", "image/png") for name in PICTURES},
        flight=_embed(flight, MIME) if flight.is_file() else None,
        meshes=sorted(file.name for file in sources.renders.glob("mesh-*")),
        comparisons=_comparisons(sources.metrics),
        strips=_strips(sources.evaluation),
        histograms=_histograms(cameras),
        camera_rows=_camera_rows(sources.evaluation / "camera_distances.json"),
        curves=_curves(read_curves(sources.training)),
        published=IMAGENET_256,
        settings=dict(_flat(sources.parameters)),
    )


def _camera_rows(file: Path) -> dict[str, dict[str, float]]:
    """Means, spreads and distances of each camera parameter; none where the true cameras are not known."""
    return json.loads(_read(file)) if file.is_file() else {}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file}: the report shows this and it is missing; run `dvc repro report`.") from None


def _embed(file: Path, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(_read(file)).decode()}"


def _comparisons(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A chart and a table for each metric that has controls."""
    result = []
    for metric in sorted((name for name in metrics if f"{name}_untrained" in metrics), key=_rank):
        about = reading(metric, metrics.get(f"{metric}_distilled", False))
        values = {
            label: metrics[key]
            for name, label in SETS.items()
            if (key := metric if name == MODEL else f"{metric}_{name}") in metrics
        }
        better = "lower is better" if about.lower_is_better else "higher is better"
        chart = bar_chart(better, values, highlight=SETS[MODEL])
        result.append({"about": about, "better": better, "sets": values, "chart": Markup(chart)})
    return result


def _rank(metric: str) -> int:
    known = ("swd", "depth_swd", "nfs")
    return known.index(metric) if metric in known else len(known)


def _strips(folder: Path) -> dict[str, str]:
    names = {"real": "real pictures", **SETS}
    files = {label: folder / f"{name}.png" for name, label in names.items()}
    return {label: _embed(file, "image/png") for label, file in files.items() if file.is_file()}


def _read_cameras(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Values by parameter and set."""
    rows = list(csv.DictReader(_read(file).decode().splitlines(), delimiter="\t"))
    parameters = [name for name in rows[0] if name != "set"]
    sets = dict.fromkeys(row["set"] for row in rows)
    return {
        parameter: {name: np.array([float(row[parameter]) for row in rows if row["set"] == name]) for name in sets}
        for parameter in parameters
    }


UNITS = {"yaw": "radians", "pitch": "radians", "fov": "degrees", "look_at_radius": "scene units"}


def _histograms(cameras: Mapping[str, Mapping[str, np.ndarray]]) -> list[Markup]:
    return [Markup(histogram_chart(name.replace("_", " "), UNITS[name], sets)) for name, sets in cameras.items()]


def read_curves(folder: Path) -> list[dict[str, float]]:
    """Lines of the training's log, each with `kimg`."""
    return [json.loads(line) for line in _read(folder / "curves.jsonl").decode().splitlines()]


def _curves(records: Sequence[Mapping[str, float]]) -> dict[str, list[Markup]]:
    """A chart for each scalar, by group: `generator/loss` belongs to `generator`."""
    groups: dict[str, list[Markup]] = {}
    for name in dict.fromkeys(name for record in records for name in record if name != "kimg"):
        points = [(record["kimg"], record[name]) for record in records if name in record]
        group, _, short = name.rpartition("/")
        chart = line_chart(short.replace("_", " "), "thousands of images", *zip(*points, strict=True))
        groups.setdefault(group or "run", []).append(Markup(chart))
    return groups


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted keys."""
    result = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            result += _flat(value, f"{path}{key}.")
        else:
            result.append((f"{path}{key}", json.dumps(value)))
    return result
