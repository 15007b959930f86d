"""Surface normals as colours.

The normals are those of the rendered depth map (`threedgp.camera.normals`): what a person sees of the geometry. They
need no gradient of the density, and show a depth map's noise and steps for what they are; where an object ends the
normal belongs to the step, not to a surface.
"""

from __future__ import annotations

import numpy as np


def normal_colors(normals: np.ndarray) -> np.ndarray:
    """Normals `[..., 3]` in camera space as uint8 colours: red to the right, green up, blue towards the viewer."""
    return ((normals + 1) * 127.5).round().astype(np.uint8)
