"""The report: one HTML page that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from threedgp.runtime.errors import UserError
from threedgp.visual.charts import bar_chart, heat_map, histogram_chart, line_chart
from threedgp.visual.published import IMAGENET_256
from threedgp.visual.video import MIME, SUFFIX

PICTURES = ("samples", "depth", "real", "views")
MORE_PICTURES = ("normals", "truncation")
"""Shown where stage `render` made them."""
FILMS = ("flight", "interpolation")
MOST_STAGES = 6
"""Pictures of how the scenes came about while training."""
MOST_MESH_BYTES = 4 << 20
"""Larger meshes stay beside the page."""
LEAST_DIVERSE = 10
"""Classes that are listed."""
MODEL = "model"
SETS = {
    MODEL: "this model",
    "untrained": "the same model untrained",
    "other_half": "other half of the real set",
    "real": "real pictures",
    "prior": "the prior",
    "blurred": "real set, blurred",
    "background": "backgrounds without objects",
    "flat": "a flat plane",
}
"""Measured sets, and what the page calls them."""


@dataclass(frozen=True)
class Sources:
    """All that the page is made of."""

    title: str
    facts: Mapping[str, str]
    """What was run, by name."""
    parameters: Mapping[str, Any]
    """Settings by dotted key; values may be nested."""
    metrics: Mapping[str, Any]
    """Content of metrics.json, and of the evaluation's details.json."""
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
    cameras = _read_cameras(sources.evaluation / "cameras.tsv")
    return environment.get_template("report.html.j2").render(
        sources=sources,
        pictures={name: _embed(sources.renders / f"{name}.png", "image/png") for name in PICTURES}
        | _found(sources.renders, MORE_PICTURES, ".png", "image/png"),
        films=_found(sources.renders, FILMS, SUFFIX, MIME),
        meshes=_meshes(sources.renders),
        comparisons=_comparisons(sources.evaluation / "comparisons.json"),
        strips=_strips(sources.evaluation),
        neighbors=_found(sources.evaluation, ("neighbors",), ".png", "image/png").get("neighbors"),
        classes=_least_diverse(sources.evaluation / "classes.tsv"),
        histograms=_histograms(cameras),
        heat_maps=_heat_maps(sources.training / "camera_histograms.npz"),
        camera_rows=_camera_rows(sources.evaluation / "camera_distances.json"),
        stages=_stages(sources.training / "pictures"),
        curves=_curves(read_curves(sources.training)),
        published=IMAGENET_256,
        settings=dict(_flat(sources.parameters)),
    )


def _found(folder: Path, names: Sequence[str], suffix: str, mime: str) -> dict[str, str]:
    """Files among `names` that are there, as links that hold their content."""
    return {name: _embed(file, mime) for name in names if (file := folder / f"{name}{suffix}").is_file()}


def _meshes(folder: Path) -> dict[str, str | None]:
    """Names of meshes, with a link that holds the file if it is small."""
    return {
        file.name: _embed(file, "model/gltf-binary") if file.stat().st_size <= MOST_MESH_BYTES else None
        for file in sorted(folder.glob("mesh-*.glb"))
    }


def _stages(folder: Path) -> dict[str, str]:
    """Pictures of the same scenes while training went on, by thousands of images: first, last and some between."""
    files = sorted(folder.glob("kimg-*.png"))
    chosen = sorted({round(place) for place in np.linspace(0, len(files) - 1, MOST_STAGES)}) if files else []
    return {f"{float(files[i].stem.removeprefix('kimg-')):g}": _embed(files[i], "image/png") for i in chosen}


def _least_diverse(file: Path) -> list[dict[str, str]]:
    """Classes whose pictures are most alike, in the order of the file: the least diverse first."""
    if not file.is_file():
        return []
    # No splitlines(): names may hold what it takes for the end of a line.
    return list(csv.DictReader(io.StringIO(_read(file).decode(), newline=""), delimiter="\t"))[:LEAST_DIVERSE]


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


def _comparisons(file: Path) -> list[dict[str, Any]]:
    """Each measured value with its title, description and a chart of the model beside its controls."""
    result = json.loads(_read(file))
    for value in result:
        label = f"{value['better']} is better" + (f", {value['unit']}" if value["unit"] else "")
        bars = {SETS.get(name, name): number for name, number in value["values"].items()}
        value["chart"] = Markup(bar_chart(label, bars, highlight=SETS[MODEL]))
    return result


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


UNITS = {"fov": "degrees", "look_at_radius": "scene units"}
"""Of camera parameters; all others are radians."""


def _histograms(cameras: Mapping[str, Mapping[str, np.ndarray]]) -> list[Markup]:
    return [
        Markup(histogram_chart(name.replace("_", " "), UNITS.get(name, "radians"), sets))
        for name, sets in cameras.items()
    ]


def _heat_maps(file: Path) -> list[Markup]:
    """How the distribution of each learned camera parameter moved while training; none where that was not kept."""
    if not file.is_file():
        return []
    with np.load(io.BytesIO(_read(file)), allow_pickle=False) as arrays:
        kimg = arrays["kimg"]
        fields = [name.removesuffix("_edges") for name in arrays.files if name.endswith("_edges")]
        return [
            Markup(_heat_map(name, kimg, arrays[f"{name}_edges"], arrays[name]))
            for name in fields
            if len(kimg) and np.ptp(arrays[f"{name}_edges"]) > 0
        ]


def _heat_map(name: str, kimg: np.ndarray, edges: np.ndarray, counts: np.ndarray) -> str:
    title = f"{name.replace('_', ' ')}, {UNITS.get(name, 'radians')}"
    return heat_map(title, "thousands of images", kimg, edges, counts)


def read_curves(folder: Path) -> list[dict[str, float]]:
    """Lines of the training's log, each with `kimg`."""
    return [json.loads(line) for line in _read(folder / "curves.jsonl").decode().splitlines()]


def _curves(records: Sequence[Mapping[str, float]]) -> dict[str, list[Markup]]:
    """A chart for each scalar, by group: `generator/loss` belongs to `generator`. Measured distances come first."""
    groups: dict[str, list[Markup]] = {"distance": []}
    for name in dict.fromkeys(name for record in records for name in record if name != "kimg"):
        points = [(record["kimg"], record[name]) for record in records if name in record]
        group, _, short = name.rpartition("/")
        chart = line_chart(short.replace("_", " "), "thousands of images", *zip(*points, strict=True))
        groups.setdefault(group or "run", []).append(Markup(chart))
    return {name: charts for name, charts in groups.items() if charts}


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted keys."""
    result = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            result += _flat(value, f"{path}{key}.")
        else:
            result.append((f"{path}{key}", json.dumps(value)))
    return result
