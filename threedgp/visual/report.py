"""The report: one self-contained HTML page, which loads nothing from the network."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow.parquet as pq
import yaml
from markupsafe import Markup

from threedgp.data.shards import ShardFolder
from threedgp.experiments.definitions import Table, load_set
from threedgp.experiments.tables import Rendered
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import duration
from threedgp.visual.charts import heat_map, histogram_chart
from threedgp.visual.curves import KIMG, UNITS, camera_title, draw_curves, read_records
from threedgp.visual.other_runs import OtherRun, is_other_seed
from threedgp.visual.verdicts import compare, headline, judged
from threedgp.visual.video import MIME, SUFFIX

IMAGES = ("samples", "real")
OPTIONAL_IMAGES = ("classes", "depth", "normals", "views", "truncation")
"""Without density, a model has no depth and one view of a scene."""
VIDEOS = ("flight", "interpolation")
STRIPS = ("real", "model", "untrained", "other_half", "blurred", "background")
"""Sets of which the evaluation has written some images."""
FAILURES = ("neighbors", "atypical")
MAX_SNAPSHOTS = 6
"""Images of the scenes at several points of the training."""
MAX_MESH_BYTES = 8 << 20
"""Larger meshes are named and not embedded."""
NUM_CLASSES = 10
"""Number of the least diverse classes that are listed."""


@dataclass(frozen=True)
class Sources:
    """Inputs of the page."""

    title: str
    facts: Mapping[str, str]
    """Description of the run, by title."""
    parameters: Mapping[str, Any]
    """Settings by section; values may be nested."""
    metrics: Mapping[str, Any]
    """Content of metrics.json, and of the evaluation's details.json."""
    evaluation: Path
    renders: Path
    training: Path
    rejects: Mapping[str, Counter[str]]
    """By stage: number of images that were left out, by reason."""
    commit: str | None = None
    """That of the code, see `threedgp.runtime.commit`."""
    others: Mapping[str, OtherRun] = field(default_factory=dict)
    """Runs to compare with, by revision."""
    tables: Sequence[Rendered] = ()
    """What all experiments on the same data have measured, see `threedgp.experiments.tables.read_collected`."""


def build_report(sources: Sources) -> str:
    """The page as HTML, a deterministic function of its sources. Raises UserError if a file of them is missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("threedgp.visual", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["camera_title"] = camera_title
    environment.filters["number"] = lambda value: f"{value:.4g}"
    camera_distances = sources.evaluation / "camera_distances.json"  # missing if the true cameras are unknown
    seeds = {name: run for name, run in sources.others.items() if is_other_seed(sources.parameters, run.parameters)}
    others = {name: run for name, run in sources.others.items() if name not in seeds}
    settings = dict(_flat(sources.parameters))
    comparisons = judged(
        json.loads(_read(sources.evaluation / "comparisons.json")), [run.metrics for run in seeds.values()]
    )
    return environment.get_template("report.html.j2").render(
        sources=sources,
        script=Markup(Path(__file__).with_name("report.js").read_text(encoding="utf-8")),
        images={name: _embed(sources.renders / f"{name}.png", "image/png") for name in IMAGES}
        | _found(sources.renders, OPTIONAL_IMAGES, ".png", "image/png"),
        videos=_found(sources.renders, VIDEOS, SUFFIX, MIME),
        meshes=_meshes(sources.renders),
        headline=headline(comparisons),
        comparisons=comparisons,
        strips=_found(sources.evaluation, STRIPS, ".png", "image/png"),
        failures=_found(sources.evaluation, FAILURES, ".png", "image/png"),
        classes=_least_diverse(sources.evaluation / "classes.tsv"),
        histograms=_histograms(sources.evaluation / "cameras.tsv"),
        heat_maps=_heat_maps(sources.training / "camera_histograms.npz"),
        camera_rows=json.loads(_read(camera_distances)) if camera_distances.is_file() else {},
        snapshots=_snapshots(sources.training / "pictures"),
        curves=draw_curves(
            read_curves(sources.training),
            {name: run.records for name, run in others.items()},
            [run.records for run in seeds.values()],
        ),
        health=json.loads(_read(sources.training / "health.json")),
        seeds=list(seeds),
        others=_compared(others, settings, comparisons),
        published=_published(settings),
        settings=settings,
        params_file=_data_url(yaml.safe_dump(dict(sources.parameters), sort_keys=False).encode(), "text/yaml"),
    )


def _compared(
    others: Mapping[str, OtherRun], settings: Mapping[str, str], comparisons: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Other runs: settings that differ, values beside ours, and their images."""
    result = {}
    for name, run in others.items():
        theirs = dict(_flat(run.parameters))
        values = [
            {
                "title": one["title"],
                "ours": one["value"],
                "theirs": run.metrics[one["metric"]],
                "word": compare(one["value"], run.metrics[one["metric"]], one["better"]),
            }
            for one in comparisons
            if one["metric"] in run.metrics
        ]
        changed = {
            key: (theirs.get(key, "none"), value)
            for key, value in settings.items()
            if theirs.get(key) != value and not key.startswith("report.")
        }
        result[name] = {"values": values, "changed": changed, "samples": _data_url(run.samples, "image/png")}
    return result


def _published(settings: Mapping[str, str]) -> list[Table]:
    """The published tables that are of the same data set."""
    source, subset = (json.loads(settings.get(f"dataset.{key}", "null")) for key in ("source", "subset"))
    dataset = f"{'_'.join(filter(None, (source, subset)))} {settings.get('dataset.resolution')}"
    tables = [table for table in load_set("paper").tables if dataset in table.datasets]
    return [table for table in tables if any(row.published for row in table.rows)]


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
    return _data_url(_read(file), mime)


def _data_url(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


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
        charts.append(Markup(histogram_chart(camera_title(name), UNITS.get(name, "radians"), sets)))
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
                unit = UNITS.get(name, "radians")
                charts.append(Markup(heat_map(camera_title(name), KIMG, unit, kimg, edges, arrays[name])))
    return charts


def read_curves(folder: Path) -> list[dict[str, float]]:
    """Records of the training log, each with `kimg`."""
    return read_records(_read(folder / "curves.jsonl").decode())


def _flat(values: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted keys."""
    result = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            result += _flat(value, f"{path}{key}.")
        else:
            result.append((f"{path}{key}", json.dumps(value)))
    return result


def reject_counts(folder: Path) -> Counter[str]:
    """Number of images that a stage left out, by reason, from ``rejects.parquet`` in its folder."""
    return Counter(pq.read_table(folder / "rejects.parquet", columns=["reason"])["reason"].to_pylist())


def run_facts(
    prepared: ShardFolder,
    shards: ShardFolder,
    metrics: Mapping[str, Any],
    training: Path,
    evaluation: Path,
    *,
    seed: int,
    model: str,
    date: str,
    commit: str | None,
) -> dict[str, str]:
    """The description at the top of the report, by title.

    Args:
        prepared, shards: all images, and those of training.
        metrics: content of metrics.json.
        training, evaluation: output folders of stages `train` and `evaluate`.
        seed: `train.seed`.
        model: checksum of the weights.
        date: day of the report.
        commit: that of the code; None = unknown.
    """
    about, size = shards.meta, shards.meta["resolution"]
    records = read_curves(training)
    seconds, kimg = 0.0, 0.0
    for record in records:
        seconds += (record["kimg"] - kimg) * 1000 / record["images_per_second"]
        kimg = record["kimg"]
    device = json.loads(_read(training / "machine.json"))["device"]
    trained = (
        f"{kimg:g} thousand images in {duration(seconds)} on {device}, {kimg * 1000 / seconds:.3g} images per second"
    )
    if metrics.get("gpu_days"):
        trained += f", {metrics['gpu_days']:.3g} GPU days"
    best = f"{metrics['kimg']:g}"  # six digits, as metrics.json has them
    if best != f"{kimg:g}":
        trained += f"; the model is the best one, after {best} thousand images"
    machine = json.loads((evaluation / "machine.json").read_text(encoding="utf-8"))
    return {
        "Data set": f"{about['dataset']} ({prepared.meta['source']}), {prepared.manifest.rows:,} images of "
        f"{size}×{size} pixels",
        "Classes": ", ".join(about["class_names"]),
        "Trained on": f"{shards.manifest.rows:,} images after selection, depth by estimator “{about['estimator']}”, "
        f"classifier features by “{about['embedder']}”",
        "Training": f"{trained}; seed {seed}",
        "Evaluation": f"{metrics['samples']:,} generated images, on {machine['device']}, PyTorch {machine['torch']}",
        "Code": f"commit {commit}" if commit else "not in a repository",
        "Model": f"SHA-256 {model}",
        "Date": date,
    }
