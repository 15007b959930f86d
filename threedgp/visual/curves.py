"""Curves of the training log: titles in words, units, and charts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from threedgp.visual.charts import Curve, line_chart

Record = Mapping[str, float]
KIMG = "thousands of images"
MAX_LABEL = 24
"""Characters of the name of another run in a legend."""
GROUPS = {
    "distance": "Quality",
    "diversity": "Diversity",
    "generator": "Generator",
    "discriminator": "Discriminator",
    "": "Speed and memory",
    "camera": "Learned cameras",
    "schedule": "Schedules",
}
"""Titles of the groups, in the order of the page: `generator/loss` belongs to `generator`."""
TITLES = {
    "distance/swd": ("Sliced Wasserstein distance of images", "distance"),
    "diversity/in_class": ("Distance between two images of a class", "generated / real"),
    "diversity/lowest_class": ("The same, least diverse class", "generated / real"),
    "generator/loss": ("Generator loss", "loss"),
    "generator/gradient_norm": ("Generator gradient", "norm"),
    "generator/adapted_correlation": ("Rendered depth to adapted depth", "correlation"),
    "generator/depth_deviation": ("Relief of rendered depth", "standard deviation, scaled depth"),
    "generator/adapted_deviation": ("Relief of adapted depth", "standard deviation, scaled depth"),
    "generator/near_offset": ("Learned near offset", "scene units"),
    "discriminator/loss": ("Discriminator loss", "loss"),
    "discriminator/gradient_norm": ("Discriminator gradient", "norm"),
    "discriminator/real_sign": ("Sign of the output, real patches", "mean, -1 to 1"),
    "discriminator/fake_sign": ("Sign of the output, generated patches", "mean, -1 to 1"),
    "discriminator/distillation": ("Distillation of features", "loss"),
    "discriminator/r1": ("R1 penalty, real patches", "penalty"),
    "discriminator/r2": ("R2 penalty, generated patches", "penalty"),
    "camera/regularizer": ("Camera regularizer", "loss"),
    "camera/mean_angle_distance": ("Mean angles: learned to prior", "radians"),
    "schedule/density_noise": ("Noise on densities", "standard deviation"),
    "schedule/blur_sigma": ("Blur of images", "pixels"),
    "schedule/patch_scale_beta": ("Patch scales", "b of Beta(1, b)"),
    "schedule/raw_depth_probability": ("Fakes with rendered depth", "probability"),
    "schedule/camera_regularizer": ("Ramp of the camera regularizer", "factor"),
    "schedule/distillation_weight": ("Weight of distillation", "weight"),
    "images_per_second": ("Training speed", "images per second"),
    "memory_gb": ("Peak memory", "GB"),
    "gpus": ("GPUs", "number"),
    "rollbacks": ("Rollbacks", "number"),
}
"""Title and unit of a curve."""
UNITS = {"fov": "degrees", "look_at_radius": "scene units"}
"""Units of camera parameters other than radians."""


class CurveGroup(NamedTuple):
    """Charts of one group."""

    title: str
    charts: list[Markup]
    constants: dict[str, str]
    """Values that did not change during the run, by title."""


def camera_title(field: str) -> str:
    """The name of a camera parameter in words."""
    return "field of view" if field == "fov" else field.replace("look_at", "look-at").replace("_", " ")


def curve_title(name: str) -> tuple[str, str]:
    """Title and unit of a curve."""
    if name in TITLES:
        return TITLES[name]
    if found := re.fullmatch(r"camera/(\w+)_(mean|std)", name):
        kind = "mean" if found[2] == "mean" else "deviation"
        return f"Learned {camera_title(found[1])}, {kind}", UNITS.get(found[1], "radians")
    if found := re.fullmatch(r"distance/(fd_|fid_)(.*?)_?(\d+)", name):
        network = found[2] or "inception"
        return f"Fréchet distance on {network}, {int(found[3]):,} samples", "distance"
    return name.rpartition("/")[2].replace("_", " "), "value"


def points_of(records: Iterable[Record], name: str) -> Curve:
    """The points of a curve."""
    return [(record["kimg"], record[name]) for record in records if name in record]


def draw_curves(
    records: Sequence[Record], others: Mapping[str, Sequence[Record]], seeds: Sequence[Sequence[Record]] = ()
) -> list[CurveGroup]:
    """Charts of all curves of a run that change, beside those of `others`, by name; `seeds` are runs of other seeds."""
    groups: dict[str, CurveGroup] = {key: CurveGroup(title, [], {}) for key, title in GROUPS.items()}
    short = _short_labels(others)
    for name in dict.fromkeys(name for record in records for name in record if name != "kimg"):
        title, unit = curve_title(name)
        key = name.rpartition("/")[0]
        group = groups.setdefault(key, CurveGroup(key, [], {}))
        curves = {"this run": points_of(records, name)}
        curves |= {short[label]: points for label, other in others.items() if (points := points_of(other, name))}
        bands = [points for other in seeds if (points := points_of(other, name))]
        values = {value for points in [*curves.values(), *bands] for _, value in points}
        if len(values) == 1:
            group.constants[title] = f"{values.pop():.4g} {unit if unit != 'number' else ''}".strip()
        else:
            group.charts.append(Markup(line_chart(title, KIMG, unit, curves, bands)))
    return [group for group in groups.values() if group.charts or group.constants]


def _short_labels(labels: Iterable[str]) -> dict[str, str]:
    """Names of runs for a legend. Long ones are cut, unless two would become equal."""
    short = {label: label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…" for label in labels}
    counts = Counter(short.values())
    return {label: cut if counts[cut] == 1 else label for label, cut in short.items()}


def read_records(text: str) -> list[dict[str, float]]:
    """Records of the training log ``curves.jsonl``, each with `kimg`."""
    return [json.loads(line) for line in text.splitlines()]
