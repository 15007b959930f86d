"""Charts for the report as deterministic SVG text, readable on light and dark pages."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, product

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

TEXT_COLOR = "#010203"
"""Placeholder that is replaced by the text color of the page."""
COLORS = ("#3b82f6", "#f59e0b", "#10b981", "#a855f7", "#ef4444")
PALE = "#9ca3af"
"""Colors of medium lightness, which have contrast to white and to black."""
MAX_COLUMNS = 120
"""Columns of a heat map; more would be thinner than a pixel."""
TITLE_WIDTH = 42
"""Characters in a line of a title."""
WIDTH, HEIGHT = 3.6, 2.1
"""Inches at 100 dpi, the width of a phone."""
STYLE = {
    "svg.hashsalt": "threedgp",  # ids would be random otherwise
    "svg.fonttype": "none",  # keep text as text, in the font of the page
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": TEXT_COLOR,
    "axes.edgecolor": TEXT_COLOR,
    "axes.labelcolor": TEXT_COLOR,
    "axes.titlecolor": TEXT_COLOR,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT_COLOR,
    "ytick.color": TEXT_COLOR,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def _draw(title: str, x_label: str, y_label: str, paint: Callable[[Axes], None], height: float = HEIGHT) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(textwrap.fill(title, TITLE_WIDTH))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        paint(axes)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend()
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue().replace(TEXT_COLOR, "currentColor")
    tag, content = svg[svg.index("<svg") :].split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", tag) + ">" + content  # the page sets the width


Curve = Sequence[tuple[float, float]]
"""Points of increasing x."""


def line_chart(title: str, x_label: str, y_label: str, curves: Mapping[str, Curve], seeds: Sequence[Curve] = ()) -> str:
    """Curves by name. `seeds` are the first one for other seeds: the chart shows their range as a band, with it."""

    def paint(axes: Axes) -> None:
        styles = cycle(product(("-", "--", ":"), COLORS))
        for (name, points), (line, color) in zip(curves.items(), styles, strict=False):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, line, color=color, linewidth=1.6, marker="." if len(x) < 3 else "", label=name)
        if seeds:
            x, y = zip(*next(iter(curves.values())), strict=True)
            values = [y, *(np.interp(x, *zip(*points, strict=True), left=np.nan, right=np.nan) for points in seeds)]
            low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
            axes.fill_between(x, low, high, color=COLORS[0], alpha=0.25, linewidth=0, label=f"{len(values)} seeds")

    return _draw(title, x_label, y_label, paint)


def histogram_chart(title: str, x_label: str, sets: Mapping[str, Sequence[float]], bins: int = 32) -> str:
    """Histograms of several samples `[N]` with common bins, normalized to equal areas."""
    edges = np.histogram_bin_edges(np.concatenate(list(sets.values())), bins=bins)

    def paint(axes: Axes) -> None:
        for (name, values), color in zip(sets.items(), COLORS, strict=False):
            density, _ = np.histogram(values, bins=edges, density=True)
            axes.stairs(density, edges, label=name, color=color, linewidth=1.6)
            axes.stairs(density, edges, fill=True, color=color, alpha=0.15)
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=6)

    return _draw(title, x_label, "frequency", paint)


def heat_map(title: str, x_label: str, y_label: str, x: np.ndarray, edges: np.ndarray, counts: np.ndarray) -> str:
    """Histograms `[T, B]` over x; higher counts have stronger colors. Neighboring histograms are added if there are
    more than `MAX_COLUMNS`.

    `x` `[T]` is the end of the interval of each histogram, increasing and evenly spaced; so are the edges `[B + 1]`.
    """
    count = min(len(x), MAX_COLUMNS)
    columns = np.zeros((count, counts.shape[1]))
    np.add.at(columns, np.arange(len(x)) * count // len(x), counts)
    share = columns / np.maximum(columns.max(axis=1, keepdims=True), 1)  # relative to the fullest bin of each column
    colors = np.empty((*share.T.shape, 4))
    colors[..., :3], colors[..., 3] = to_rgb(COLORS[0]), share.T

    def paint(axes: Axes) -> None:
        extent = (0.0, float(x[-1]), float(edges[0]), float(edges[-1]))
        axes.imshow(colors, extent=extent, origin="lower", aspect="auto", interpolation="nearest")

    return _draw(title, x_label, y_label, paint)


def bar_chart(
    x_label: str, bars: Mapping[str, float], highlight: str, spread: Mapping[str, float] | None = None
) -> str:
    """Horizontal bars in the given order from top to bottom; the bar `highlight` has another color. `spread` are their
    standard deviations."""
    names, values = list(bars), list(bars.values())

    def paint(axes: Axes) -> None:
        colors = [COLORS[0] if name == highlight else PALE for name in names]
        errors = spread and [spread[name] for name in names]
        drawn = axes.barh(names, values, xerr=errors, color=colors, ecolor=TEXT_COLOR)
        axes.bar_label(drawn, fmt="%.4g", padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(x_label, loc="right")  # long names leave narrow axes, and a centered label would be cut off

    return _draw("", x_label, "", paint, height=0.6 + 0.26 * len(bars))
