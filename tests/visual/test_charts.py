"""Charts are valid SVG, the same for the same numbers, and follow the page's text color."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from threedgp.visual import charts

CHARTS = {
    "line": lambda: charts.line_chart(
        "loss", "kimg", "nats", {"run": [(1, 3.0), (2, 2.0), (3, 2.5)], "other": [(1, 1.0)]}, [[(1, 3.5), (3, 3.0)]]
    ),
    "histogram": lambda: charts.histogram_chart("yaw", "radians", {"a": np.arange(9.0), "b": np.ones(4)}),
    "heat map": lambda: charts.heat_map(
        "yaw", "kimg", "radians", np.arange(1, 4.0), np.linspace(-1, 1, 5), np.eye(3, 4, dtype=int)
    ),
    "bars": lambda: charts.bar_chart("lower is better", {"ours": 1.5, "control": 12.0}, highlight="ours"),
    "bars with spread": lambda: charts.bar_chart("FID", {"a": 1.5, "b": 2.5}, "b", spread={"a": 0.25, "b": 0.5}),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts(name):
    svg = CHARTS[name]()
    assert svg == CHARTS[name]()
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "height" not in root.attrib
    assert charts.TEXT_COLOR not in svg
    assert "currentColor" in svg


def test_words_and_numbers_are_text():
    svg = CHARTS["bars"]()
    for word in ("ours", "control", "lower is better", "1.5", "12"):
        assert f">{word}</text>" in svg


def test_other_seeds_are_a_band():
    svg = CHARTS["line"]()
    for word in ("loss", "kimg", "nats", "run", "other", "2 seeds"):
        assert f">{word}</text>" in svg
    assert "2 seeds" not in charts.line_chart("loss", "kimg", "nats", {"run": [(1, 3.0), (2, 2.0)]})


def test_every_curve_is_drawn_in_a_style_of_its_own():
    """More curves than colors: the report compares up to eight runs."""
    svg = charts.line_chart("loss", "kimg", "nats", {f"run {n}": [(k, n + k) for k in range(3)] for n in range(9)})
    for number in range(9):
        assert f">run {number}</text>" in svg
    # Curves of three points, and their lines in the legend.
    assert len(set(re.findall(r'<path d="M \S+ \S+ \nL \S+ \S+ \nL \S+ \S+ \n" style="([^"]+)"', svg))) >= 9


def test_long_titles_take_two_lines():
    svg = charts.line_chart("a title of " + "many words " * 5, "kimg", "nats", {"run": [(1, 3.0), (2, 2.0)]})
    found = re.findall(r">([^<>]*(?:many|words)[^<>]*)</", svg)
    assert len(found) == 2 and all(len(line) <= charts.TITLE_WIDTH for line in found)


def picture_in(svg: str) -> np.ndarray:
    """The one image inside of a chart, uint8 `[H, W, 4]`."""
    (data,) = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_heat_map_shows_more_as_stronger_colour_and_low_values_at_the_bottom():
    """Four lines over two bins: the lower bin holds all at first, half in the end."""
    counts = np.array([[8, 0], [8, 2], [8, 4], [8, 8]])
    alpha = picture_in(charts.heat_map("fov", "kimg", "degrees", np.arange(1, 5.0), np.array([0.0, 1.0, 2.0]), counts))[
        ..., 3
    ]
    if alpha[0].mean() > alpha[-1].mean():  # the SVG may mirror what it embeds
        alpha = alpha[::-1]
    columns = alpha[:, [round(alpha.shape[1] * share) for share in (0.125, 0.375, 0.625, 0.875)]]
    assert (columns[-2] >= 254).all() and columns[1] == pytest.approx([0, 64, 128, 255], abs=2)


def test_heat_map_of_a_long_run_loses_no_count():
    """Lines are added up in groups: a single count among a thousand lines is still seen."""
    counts = np.zeros((1000, 8), int)
    counts[517, 3] = 1
    alpha = picture_in(charts.heat_map("fov", "kimg", "degrees", np.arange(1, 1001.0), np.linspace(0, 1, 9), counts))[
        ..., 3
    ]
    assert 0 < (alpha > 0).sum() < alpha.size / 100
    assert abs((alpha > 0).any(axis=0).argmax() / alpha.shape[1] - 0.517) < 0.01
