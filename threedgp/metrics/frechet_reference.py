"""Frechet distances from published statistics of a real set, and sFID (Nash et al. 2021, arXiv 2103.03841)."""

from __future__ import annotations

from threedgp.features.moments import Moments
from threedgp.metrics._declaration import UNTRAINED, Metric, Value
from threedgp.metrics.frechet import frechet_distance


def measure(
    moments: Moments, spatial_moments: Moments, reference_moments: Moments, reference_spatial_moments: Moments
) -> tuple[float, float]:
    """The distances of pooled and of spatial Inception features."""
    return frechet_distance(moments, reference_moments), frechet_distance(spatial_moments, reference_spatial_moments)


METRIC = Metric(
    measure,
    Value(
        "fd",
        "Fréchet distance on {network} features from published statistics",
        "Distance from the statistics in `features.reference` instead of those of the prepared images.",
        column=12,
        published="fid",
        suffix="_reference",
    ),
    Value(
        "sfid",
        "Fréchet distance on spatial Inception features",
        "Distance between features at each position, before they are averaged over the image, from the statistics in "
        "`features.reference`.",
        column=14,
    ),
    controls=(UNTRAINED,),
)
