"""Props that stand around the animals, in units of half the height of an image."""

from __future__ import annotations

from threedgp.data.world.bodies import Body
from threedgp.data.world.coats import color

COLORS = {
    "bark": "#6b4e36",
    "leaf": "#5d8a3c",
    "bush": "#6f9445",
    "acacia": "#7f8f45",
    "rock": "#8d8880",
    "conifer": "#3f6b56",
    "cactus": "#6a9a58",
    "weed": "#4f9a5c",
    "coral": "#e0707a",
}
PROP_PAINTS = {name: color(code) for name, code in COLORS.items()}
"""Paints of the parts."""


def build_prop(kind: str, body: Body) -> None:
    """Add the parts of a prop."""
    lean = body.vary(-0.1, 0.1)
    if kind == "tree":
        body.limb("bark", (0, 0, 0, 0.1), (lean, 0.75, 0, 0.06))
        body.ball("leaf", (lean, 1.05, 0), (0.4, 0.42, 0.4))
        body.ball("leaf", (lean - 0.22, 0.85, 0.1), (0.3, 0.3, 0.3))
        body.ball("leaf", (lean + 0.26, 0.9, 0), (0.28, 0.27, 0.28))
    elif kind == "acacia":
        body.limb("bark", (0, 0, 0, 0.07), (lean, 0.55, 0, 0.05), (lean - 0.22, 1.0, 0, 0.03))
        body.limb("bark", (lean, 0.55, 0, 0.045), (lean + 0.25, 0.98, 0, 0.03))
        body.ball("acacia", (lean, 1.08, 0), (0.62, 0.13, 0.5))
        body.ball("acacia", (lean + 0.1, 1.2, 0), (0.36, 0.1, 0.3))
    elif kind == "conifer":
        body.limb("bark", (0, 0, 0, 0.07), (0, 0.3, 0, 0.06))
        for low, high, radius in ((0.3, 0.75, 0.32), (0.6, 1.05, 0.25), (0.9, 1.4, 0.18)):
            body.limb("conifer", (0, low, 0, radius), (0, high, 0, 0.02))
    elif kind == "cactus":
        body.limb("cactus", (0, 0, 0, 0.12), (0, 0.95, 0, 0.11))
        body.limb("cactus", (0, 0.4, 0, 0.075), (0.3, 0.45, 0, 0.075), (0.32, 0.75 + lean, 0, 0.07))
        body.limb("cactus", (0, 0.55, 0, 0.07), (-0.27, 0.6, 0, 0.07), (-0.28, 0.85 - lean, 0, 0.065))
    elif kind == "weed":
        for x in (-0.12, 0.0, 0.13):
            sway, top = body.vary(-0.15, 0.15), body.vary(0.5, 1.1)
            body.limb("weed", (x, 0, 0, 0.05), (x + sway, 0.5 * top, 0, 0.045), (x - 0.3 * sway, top, 0, 0.015))
    elif kind == "coral":
        body.limb("coral", (0, 0, 0, 0.09), (0, 0.3, 0, 0.07), (-0.2, 0.55, 0, 0.05))
        body.limb("coral", (0.2, 0.6, 0.05, 0.05), (0, 0.3, 0, 0.06), (0, 0.7, 0, 0.05))
    elif kind == "bush":
        body.ball("bush", (-0.14, 0.12, 0), (0.2, 0.2, 0.18))
        body.ball("bush", (0.12, 0.15, 0.02), (0.22, 0.24, 0.2))
    else:
        body.ball("rock", (0, 0.06, 0), (0.26, 0.2, 0.2))
        body.ball("rock", (0.2, 0.03, 0.05), (0.16, 0.12, 0.14))
