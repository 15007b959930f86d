"""The report in a real browser: no error, no request but for itself, readable on a desk and on a telephone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from threedgp.visual.grids import write_png
from threedgp.visual.report import Sources, build_report
from threedgp.visual.video import write_video

SETS = ("learned", "prior", "true")
METRICS = {
    "swd": 0.1234,
    "swd_untrained": 0.29,
    "swd_background": 0.18,
    "fd_efficientnet_lite0": 321.0,
    "fd_efficientnet_lite0_untrained": 700.0,
    "samples": 2048,
    "kimg": 0.2,
}
COMPARISONS = [
    {
        "metric": metric,
        "title": "A distance with a title of many words",
        "description": "What it compares, in a sentence that takes several lines on a telephone.",
        "better": "lower",
        "unit": unit,
        "values": {"model": METRICS[metric], "untrained": METRICS[f"{metric}_untrained"]},
    }
    for metric, unit in (("swd", ""), ("fd_efficientnet_lite0", "a unit"))
]


@pytest.fixture
def page_file(tmp_path) -> Path:
    """A report of wide images, long names, films and every kind of chart."""
    rng = np.random.default_rng(0)
    renders, evaluation, training = (tmp_path / name for name in ("renders", "evaluation", "training"))
    for name in ("samples", "depth", "normals", "real", "views", "truncation"):
        write_png(renders / f"{name}.png", rng.integers(0, 256, (60, 1600, 3), dtype=np.uint8))
    for name in ("flight", "interpolation"):
        write_video(renders / f"{name}.mp4", list(rng.integers(0, 256, (4, 32, 64, 3), dtype=np.uint8)), 24)
    (renders / "mesh-000.glb").write_bytes(b"mesh")
    for name in ("real", "model", "untrained", "neighbors"):
        write_png(evaluation / f"{name}.png", rng.integers(0, 256, (16, 900, 3), dtype=np.uint8))
    rows = [f"{name}\t{x:.3f}\t{y:.3f}\t{9 * x + 20:.3f}" for name in SETS for x, y in rng.normal(size=(20, 2))]
    (evaluation / "cameras.tsv").write_text("\n".join(["set\tyaw\tpitch\tfov", *rows]))
    (evaluation / "classes.tsv").write_text(f"class\tpictures\trecall\tdiversity\n{'long name ' * 9}\t9\t0.1\t0.7\n")
    keys = ("emd", "emd_prior", "mean", "std", "prior_mean", "prior_std", "true_mean", "true_std")
    (evaluation / "camera_distances.json").write_text(json.dumps({"look_at_radius": dict.fromkeys(keys, -0.123456)}))
    (evaluation / "comparisons.json").write_text(json.dumps(COMPARISONS))
    training.mkdir()
    records = [
        {"kimg": k, "distance/fd_efficientnet_lite0_2048": 1 / k, "camera/yaw_mean": k, "images_per_second": 20.0}
        for k in (0.1, 0.2, 0.3)
    ]
    (training / "curves.jsonl").write_text("\n".join(map(json.dumps, records)))
    finding = {"since_kimg": 0.1, "text": "a problem that takes many words to say " * 5}
    (training / "health.json").write_text(json.dumps([finding]))
    counts = rng.integers(0, 9, (30, 32))
    np.savez(training / "camera_histograms.npz", kimg=np.arange(30.0), yaw=counts, yaw_edges=np.linspace(-1, 1, 33))
    parameters = {"dataset": {"path": "a/very/long/path/without/any/space/" * 6}, "train": {"kimg": 16}}
    rejects = {"prepare": Counter({"a reason that takes many words to say " * 3: 3}), "depth": Counter()}
    facts = {"Data set": "toy", "Classes": ", ".join(f"class{number}" for number in range(100))}
    page = build_report(Sources("A run", facts, parameters, METRICS, evaluation, renders, training, rejects))
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report(open_page, page_file, width, scheme):
    watched = open_page(width, color_scheme=scheme)
    page = watched.page
    page.goto(page_file.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(part => part.open = true)")
    page.wait_for_function(
        """() => [...document.images].every(picture => picture.complete && picture.naturalWidth)
            && [...document.querySelectorAll('video')].every(film => film.readyState >= 2)"""
    )
    outside = [url for url in watched.requests if not url.startswith("data:")]
    assert outside == [page_file.as_uri()]
    assert watched.errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than its window"
    # What is cut off at the side must be in a part that scrolls by itself.
    cut = page.evaluate(
        """width => [...document.querySelectorAll('h1, h2, h3, p, dd, img, video, svg, figcaption')]
            .filter(part => !part.closest('.scroll') && part.getBoundingClientRect().right > width + 1)
            .map(part => part.outerHTML.slice(0, 80))""",
        width,
    )
    assert cut == []
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('p, td, dd, figcaption')]
            .map(part => parseFloat(getComputedStyle(part).fontSize)))"""
    )
    assert smallest >= 12, "pixels; smaller print is not readable on a telephone"
