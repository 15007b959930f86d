"""Agreement of a view from outside of the prior of cameras with a view at its edge, measured as in `views`.

Content that the outer view alone shows, such as fog beside the object, counts in full.
"""

from __future__ import annotations

from threedgp.metrics._declaration import UNTRAINED, Metric, Value
from threedgp.metrics.views import measure

METRIC = Metric(
    measure,
    Value(
        "outer_view_color_error",
        "Color difference of a view from outside of the prior",
        "A view from 0.25 radians beyond the edge of the prior's yaw, reprojected into the view at the edge through "
        "its depth; points that are occluded there are left out.",
        column=162,
        unit="levels of 255",
    ),
    Value(
        "outer_view_depth_error",
        "Depth difference of a view from outside of the prior",
        "The same for depth, as a fraction of the length of rays.",
        column=163,
    ),
    Value(
        "outer_view_judged",
        "Pixels that the view at the edge sees, too",
        "Fraction of pixels of the outer view that are compared.",
        better=None,
    ),
    needs=("outer_view_pairs", "depth_range"),
    controls=(UNTRAINED,),
)
