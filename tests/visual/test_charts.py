"""Charts are valid SVG, the same for the same numbers, and follow the page's text colour."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from threedgp.visual import charts

CHARTS = {
    "line": lambda: charts.line_chart("loss", "kimg", [1, 2, 3], [3.0, 2.0, 2.5]),
    "histogram": lambda: charts.histogram_chart("yaw", "radians", {"a": np.arange(9.0), "b": np.ones(4)}),
    "bars": lambda: charts.bar_chart("lower is better", {"ours": 1.5, "control": 12.0}, highlight="ours"),
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
    assert charts.INK not in svg
    assert "currentColor" in svg


def test_words_and_numbers_are_text():
    svg = CHARTS["bars"]()
    for word in ("ours", "control", "lower is better", "1.5", "12"):
        assert f">{word}</text>" in svg
