"""Volume rendering of tri-plane scenes, usable without the rest of the project (see docs/rendering.md).

Every function raises a ValueError that names the first argument whose shape, dtype, device or value is wrong.
"""

from threedgp.render.backends import Backend
from threedgp.render.compositing import Composite, composite
from threedgp.render.contraction import contract, uncontract
from threedgp.render.decoder import Decoder
from threedgp.render.field import field_along_rays, field_at_points
from threedgp.render.renderer import RayRandomness, RaySettings, midpoint_randomness, render_rays
from threedgp.render.sampling import importance_distances, merge_samples, stratified_distances

__all__ = [
    "Backend",
    "Composite",
    "Decoder",
    "RayRandomness",
    "RaySettings",
    "composite",
    "contract",
    "field_along_rays",
    "field_at_points",
    "importance_distances",
    "merge_samples",
    "midpoint_randomness",
    "render_rays",
    "stratified_distances",
    "uncontract",
]
