"""The page of `dvc plots` in a real browser: line charts without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLOTS = """
plots:
  - Losses:
      x: step
      x_label: thousands of images
      y_label: loss
      title: Losses of <both>
      y: {a.json: loss, b.json: loss}
  - Constant:
      x: step
      y: {a.json: constant}
  - Missing:
      x: step
      y: {c.json: loss}
"""


@pytest.fixture
def page_file(tmp_path: Path, root: Path) -> Path:
    """The page of a project with two plots, and a third one of a file that is missing."""
    for name, losses in (("a", [3.0, 2.0, 2.5]), ("b", [1.0, float("nan"), 0.5])):
        rows = [{"step": step, "loss": loss, "constant": 7} for step, loss in enumerate(losses)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows).replace("NaN", '"nan"'))
    (tmp_path / "dvc.yaml").write_text(PLOTS)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True, timeout=300)
    shutil.copy(root / ".dvc" / "plots.html", tmp_path / ".dvc")
    config = (root / ".dvc" / "config").read_text()
    (tmp_path / ".dvc" / "config").write_text(config.replace("[core]", "[core]\n    no_scm = true"))
    subprocess.run([*dvc, "plots", "show"], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    return tmp_path / "dvc_plots" / "index.html"


@pytest.mark.parametrize("width", [1280, 400])
def test_plots_are_drawn_without_a_network(open_page, page_file, width):
    watched = open_page(width)
    page = watched.page
    page.goto(page_file.as_uri())
    assert [url for url in watched.requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert watched.errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    losses, constant = (page.locator("figure").nth(number) for number in (0, 1))
    assert losses.locator("strong").inner_text() == "Losses of <both>"
    words = losses.locator("text").all_text_contents()
    assert {"thousands of images", "loss", "0", "1", "2"} <= set(words)
    assert losses.locator("div").inner_text().split() == ["workspace,", "a.json", "workspace,", "b.json"]
    curves = (
        losses.locator("svg")
        .first.locator("path[fill=none]")
        .evaluate_all("all => all.map(one => one.getAttribute('d'))")
    )
    (first, second) = ([tuple(map(float, point)) for point in re.findall(r"[ML]([\d.]+) ([\d.]+)", d)] for d in curves)
    left, middle, right = first
    assert left[0] < middle[0] < right[0] and middle[0] == pytest.approx((left[0] + right[0]) / 2)
    assert left[1] < right[1] < middle[1], "3 is above 2.5 and that above 2"
    assert right[1] - left[1] == pytest.approx((middle[1] - left[1]) / 2)
    assert [point[0] for point in second] == [left[0], right[0]], "what is not a number is left out"
    assert second[0][1] - left[1] == pytest.approx(2 * (middle[1] - left[1])), "one scale for both"
    assert constant.locator("path[fill=none]").count() == 2, "the curve and its sample in the legend"
