"""The report: one self-contained HTML page, which loads nothing from the network."""

from __future__ import annotations

import base64
import csv
import io
import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow.parquet as pq
from markupsafe import Markup

from threedgp.data.shards import ShardFolder
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import duration
from threedgp.visual.charts import bar_chart, heat_map, histogram_chart, line_chart
from threedgp.visual.published import IMAGENET_256
from threedgp.visual.video import MIME, SUFFIX

IMAGES = ("samples", "real")
OPTIONAL_IMAGES = ("depth", "normals", "views", "truncation")
"""Without density, a model has no depth and one view of a scene."""
VIDEOS = ("flight", "interpolation")
MAX_SNAPSHOTS = 6
"""Images of the scenes at several points of the training."""
MAX_MESH_BYTES = 4 << 20
"""Larger meshes are named and not embedded."""
NUM_CLASSES = 10
"""Number of the least diverse classes that are listed."""
CODE = ("stages", "threedgp", "dvc.yaml")
"""Paths whose changes `git_commit` reports."""
MODEL = "model"
SETS = {
    MODEL: "this model",
    "untrained": "the same model untrained",
    "other_half": "other half of the real set",
    "real": "real images",
    "prior": "the prior",
    "blurred": "real set, blurred",
    "background": "backgrounds without objects",
    "flat": "a flat plane",
}
"""Measured sets, and what the page calls them."""


@dataclass(frozen=True)
class Sources:
    """Inputs of the page."""

    title: str
    facts: Mapping[str, str]
    """Description of the run, by title."""
    parameters: Mapping[str, Any]
    """Settings by dotted key; values may be nested."""
    metrics: Mapping[str, Any]
    """Content of metrics.json, and of the evaluation's details.json."""
    evaluation: Path
    renders: Path
    training: Path
    rejects: Mapping[str, Counter[str]]
    """By stage: number of images that were left out, by reason."""


def build_report(sources: Sources) -> str:
    """The page as HTML, a deterministic function of its sources. Raises UserError if a file of them is missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("threedgp.visual", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    camera_distances = sources.evaluation / "camera_distances.json"  # missing if the true cameras are unknown
    return environment.get_template("report.html.j2").render(
        sources=sources,
        images={name: _embed(sources.renders / f"{name}.png", "image/png") for name in IMAGES}
        | _found(sources.renders, OPTIONAL_IMAGES, ".png", "image/png"),
        videos=_found(sources.renders, VIDEOS, SUFFIX, MIME),
        meshes=_meshes(sources.renders),
        comparisons=_comparisons(sources.evaluation / "comparisons.json"),
        strips=_strips(sources.evaluation),
        neighbors=_found(sources.evaluation, ("neighbors",), ".png", "image/png").get("neighbors"),
        classes=_least_diverse(sources.evaluation / "classes.tsv"),
        histograms=_histograms(sources.evaluation / "cameras.tsv"),
        heat_maps=_heat_maps(sources.training / "camera_histograms.npz"),
        camera_rows=json.loads(_read(camera_distances)) if camera_distances.is_file() else {},
        snapshots=_snapshots(sources.training / "pictures"),
        curves=_curves(read_curves(sources.training)),
        health=json.loads(_read(sources.training / "health.json")),
        published=IMAGENET_256,
        settings=dict(_flat(sources.parameters)),
    )


def _found(folder: Path, names: Sequence[str], suffix: str, mime: str) -> dict[str, str]:
    """Data URLs of the files among `names` that exist."""
    return {name: _embed(file, mime) for name in names if (file := folder / f"{name}{suffix}").is_file()}


def _meshes(folder: Path) -> dict[str, str | None]:
    """Names of meshes with a data URL, or None for large files."""
    return {
        file.name: _embed(file, "model/gltf-binary") if file.stat().st_size <= MAX_MESH_BYTES else None
        for file in sorted(folder.glob("mesh-*.glb"))
    }


def _snapshots(folder: Path) -> dict[str, str]:
    """Images of the same scenes during training, by thousands of training images: first, last and some between."""
    files = sorted(folder.glob("kimg-*.png"))
    chosen = sorted({round(place) for place in np.linspace(0, len(files) - 1, MAX_SNAPSHOTS)}) if files else []
    return {f"{float(files[i].stem.removeprefix('kimg-')):g}": _embed(files[i], "image/png") for i in chosen}


def _least_diverse(file: Path) -> list[dict[str, str]]:
    """Rows of the least diverse classes, which come first in the file."""
    if not file.is_file():
        return []
    # Not splitlines(), since names may contain characters that it treats as line breaks.
    return list(csv.DictReader(io.StringIO(_read(file).decode(), newline=""), delimiter="\t"))[:NUM_CLASSES]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{file}: missing, but needed for the report; run `dvc repro report`.") from None


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
    names = {"real": "real images", **SETS}
    files = {label: folder / f"{name}.png" for name, label in names.items()}
    return {label: _embed(file, "image/png") for label, file in files.items() if file.is_file()}


UNITS = {"fov": "degrees", "look_at_radius": "scene units"}
"""Units of camera parameters other than radians."""


def _histograms(file: Path) -> list[Markup]:
    """A chart for each camera parameter, with a histogram for each set; none for a model without cameras."""
    if not file.is_file():
        return []
    rows = list(csv.DictReader(_read(file).decode().splitlines(), delimiter="\t"))
    charts = []
    for name in [name for name in rows[0] if name != "set"]:
        sets: dict[str, list[float]] = {}
        for row in rows:
            sets.setdefault(row["set"], []).append(float(row[name]))
        charts.append(Markup(histogram_chart(name.replace("_", " "), UNITS.get(name, "radians"), sets)))
    return charts


def _heat_maps(file: Path) -> list[Markup]:
    """Histograms of each learned camera parameter during training; empty if they were not recorded."""
    if not file.is_file():
        return []
    charts = []
    with np.load(io.BytesIO(_read(file)), allow_pickle=False) as arrays:
        kimg = arrays["kimg"]
        for name in [name.removesuffix("_edges") for name in arrays.files if name.endswith("_edges")]:
            edges = arrays[f"{name}_edges"]
            if len(kimg) and np.ptp(edges) > 0:
                title = f"{name.replace('_', ' ')}, {UNITS.get(name, 'radians')}"
                charts.append(Markup(heat_map(title, "thousands of images", kimg, edges, arrays[name])))
    return charts


def read_curves(folder: Path) -> list[dict[str, float]]:
    """Records of the training log, each with `kimg`."""
    return [json.loads(line) for line in _read(folder / "curves.jsonl").decode().splitlines()]


def _curves(records: Sequence[Mapping[str, float]]) -> dict[str, list[Markup]]:
    """A chart for each scalar, by group: `generator/loss` belongs to `generator`. Distances come first."""
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


def git_commit() -> str | None:
    """The commit of the working directory, marked if its code has changes; None outside of a repository."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit}, with changes" if git("status", "--porcelain", "--", *CODE) else commit
    except (OSError, subprocess.SubprocessError):
        return None


def reject_counts(folder: Path) -> Counter[str]:
    """Number of images that a stage left out, by reason, from ``rejects.parquet`` in its folder."""
    return Counter(pq.read_table(folder / "rejects.parquet", columns=["reason"])["reason"].to_pylist())


def run_facts(
    prepared: ShardFolder,
    shards: ShardFolder,
    metrics: Mapping[str, Any],
    training: Path,
    evaluation: Path,
    commit: str | None,
) -> dict[str, str]:
    """The description at the top of the report, by title, from the shards of all images and of training, the content of
    metrics.json, the output folders of stages `train` and `evaluate`, and the commit of the code (None = unknown)."""
    about, size = shards.meta, shards.meta["resolution"]
    records = read_curves(training)
    seconds, kimg = 0.0, 0.0
    for record in records:
        seconds += (record["kimg"] - kimg) * 1000 / record["images_per_second"]
        kimg = record["kimg"]
    trained = f"{kimg:g} thousand images in {duration(seconds)}, {kimg * 1000 / seconds:.3g} images per second"
    if metrics.get("gpu_days"):
        trained += f", {metrics['gpu_days']:.3g} GPU days"
    model = f"{metrics['kimg']:g}"  # six digits, as metrics.json has them
    if model != f"{kimg:g}":
        trained += f"; the model is the best one, after {model} thousand images"
    machine = json.loads((evaluation / "machine.json").read_text(encoding="utf-8"))
    facts = {
        "Data set": f"{about['dataset']} ({prepared.meta['source']}), {prepared.manifest.rows:,} images of "
        f"{size}×{size} pixels",
        "Classes": ", ".join(about["class_names"]),
        "Trained on": f"{shards.manifest.rows:,} images after selection, depth by estimator “{about['estimator']}”, "
        f"classifier features by “{about['embedder']}”",
        "Training": trained,
        "Evaluation": f"{metrics['samples']:,} generated images, on {machine['device']}, PyTorch {machine['torch']}",
    }
    if commit:
        facts["Code"] = f"commit {commit}"
    return facts
