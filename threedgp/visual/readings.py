"""What a metric's name means, and how people should read its value."""

from __future__ import annotations

from typing import NamedTuple

PLAIN = {
    "fid": ("fd", "inception"),
    "kid": ("kd", "inception"),
    "inception_score": ("class_score", "inception"),
    "authenticity": ("authenticity", "inception"),
    "precision": ("precision", "vgg16"),
    "recall": ("recall", "vgg16"),
    "class_recall": ("class_recall", "vgg16"),
    "class_diversity": ("class_diversity", "vgg16"),
}
"""Names that are kept for the network that the published metric looks through: the metric, and that network."""
PUBLISHED_TITLES = {"fid": "FID", "kid": "KID", "inception_score": "Inception score"}


class Reading(NamedTuple):
    """How a metric is introduced to people."""

    title: str
    lower_is_better: bool
    how: str
    """`{}` in it and in the title is the network."""


READINGS = {
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
    "normal_swd": Reading(
        "Sliced Wasserstein distance of normals",
        True,
        "The same comparison between normals of rendered and of true depth: which way surfaces turn.",
    ),
    "nfs": Reading(
        "Non-flatness score",
        False,
        "How many of 64 depth levels a frontal view fills: a flat plane scores 1, the most is 64. It shows "
        "collapsed geometry; noise scores high too.",
    ),
    "fd": Reading("Fréchet distance on {} features", True, "Compares what {} sees in generated and in real pictures."),
    "kd": Reading(
        "Kernel distance on {} features",
        True,
        "Compares the same features without the bias that the Fréchet distance has for few pictures.",
    ),
    "class_score": Reading(
        "Class score of {}",
        False,
        "How sure {} is of what each picture shows, and how many different things it sees; real pictures play no part.",
    ),
    "precision": Reading("Precision on {} features", False, "Share of generated pictures that lie among real ones."),
    "recall": Reading("Recall on {} features", False, "Share of real pictures that lie among generated ones."),
    "class_recall": Reading(
        "Recall within a class on {} features", False, "Recall inside each class, averaged over classes."
    ),
    "class_diversity": Reading(
        "Diversity within a class on {} features",
        False,
        "How much pictures of a class differ, relative to real ones: 0 = all alike, 1 = as varied.",
    ),
    "authenticity": Reading(
        "Authenticity on {} features",
        False,
        "Share of pictures that are no near copies of a training picture; real pictures beside show what is usual.",
    ),
    "shape_distance": Reading(
        "Distance from true shapes to generated ones",
        True,
        "From each true depth map to the nearest generated one: 0 = exact, 1 = no better than flat planes.",
    ),
    "shape_coverage": Reading(
        "Coverage of true shapes", False, "Share of true depth maps that are the nearest of some generated one."
    ),
    "depth_consistency": Reading(
        "Rendered depth against an estimator",
        True,
        "Error between rendered depth and what an estimator sees in the same picture, scale and shift aligned.",
    ),
    "view_color_error": Reading(
        "Disagreement of two views, colour",
        True,
        "One view moved into another through the rendered depth, in levels of 255. A flat scene agrees with itself, "
        "too: read it beside the depth metrics.",
    ),
    "view_depth_error": Reading(
        "Disagreement of two views, depth", True, "The same for depth, as a share of the length of rays."
    ),
    "view_judged": Reading(
        "Pixels that both views see", False, "Share of pixels on which the disagreement of views is judged; no quality."
    ),
    "camera_emd": Reading(
        "Distance of learned from true cameras",
        True,
        "Wasserstein-1 distance as a share of the prior's range, mean over camera parameters.",
    ),
}
"""By metric, in the order of the page; those on features without their network."""
ON_FEATURES = tuple(name for name, about in READINGS.items() if "{}" in about.title)


def _parts(metric: str) -> tuple[str, str]:
    """The metric without its network, and the network; nothing where it looks through none."""
    if metric in PLAIN:
        return PLAIN[metric]
    for name in sorted(ON_FEATURES, key=len, reverse=True):
        if metric.startswith(f"{name}_"):
            return name, metric.removeprefix(f"{name}_")
    return metric, ""


def is_known(metric: str) -> bool:
    """Whether there is a reading of it."""
    return _parts(metric)[0] in READINGS


def rank(metric: str) -> int:
    """Place on the page; unknown ones come last."""
    name, _ = _parts(metric)
    return list(READINGS).index(name) if name in READINGS else len(READINGS)


def reading(metric: str, distilled: bool) -> Reading:
    """How to read a metric.

    Args:
        distilled: training learned from the same network.

    Raises:
        KeyError: there is no reading of it.
    """
    name, network = _parts(metric)
    title, lower_is_better, how = READINGS[name]
    how = how.format(network)
    if name == "fd" and metric != "fid":
        how += " The network is not that of FID, so this is no FID."
    if name == "fd" and distilled:
        how += " Training distils features of the same network, which flatters the model here."
    return Reading(PUBLISHED_TITLES.get(metric, title.format(network)), lower_is_better, how)
