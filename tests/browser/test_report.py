"""The report in a real browser: no error, no request but for itself, readable on a desk and on a telephone."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from threedgp.data.images import decode_image
from threedgp.visual.grids import write_png
from threedgp.visual.meshes import write_mesh
from threedgp.visual.other_runs import OtherRun
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
    for name in ("samples", "classes", "depth", "normals", "real", "views", "truncation"):
        write_png(renders / f"{name}.png", rng.integers(0, 256, (60, 1600, 3), dtype=np.uint8))
    for name in ("flight", "interpolation"):
        write_video(renders / f"{name}.mp4", list(rng.integers(0, 256, (4, 32, 64, 3), dtype=np.uint8)), 24)
    box = trimesh.creation.box((0.4, 0.4, 0.4))
    box.visual.vertex_colors = [[255 if x > 0 else 0, 0, 0, 255] for x in box.vertices[:, 0]]
    write_mesh(renders / "mesh-000.glb", box)
    for name in ("real", "model", "untrained", "neighbors", "atypical"):
        write_png(evaluation / f"{name}.png", rng.integers(0, 256, (16, 900, 3), dtype=np.uint8))
    rows = [f"{name}\t{x:.3f}\t{y:.3f}\t{9 * x + 20:.3f}" for name in SETS for x, y in rng.normal(size=(20, 2))]
    (evaluation / "cameras.tsv").write_text("\n".join(["set\tyaw\tpitch\tfov", *rows]))
    (evaluation / "classes.tsv").write_text(f"class\timages\trecall\tdiversity\n{'long name ' * 9}\t9\t0.1\t0.7\n")
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
    (training / "machine.json").write_text('{"device": "a device", "torch": "2.15"}')
    counts = rng.integers(0, 9, (30, 32))
    np.savez(training / "camera_histograms.npz", kimg=np.arange(30.0), yaw=counts, yaw_edges=np.linspace(-1, 1, 33))
    parameters = {"dataset": {"path": "a/very/long/path/without/any/space/" * 6}, "train": {"kimg": 16}}
    rejects = {"prepare": Counter({"a reason that takes many words to say " * 3: 3}), "depth": Counter()}
    facts = {"Data set": "toy", "Classes": ", ".join(f"class{number}" for number in range(100))}
    metrics = {"swd": 0.2, "fd_efficientnet_lite0": 300.0}
    other = OtherRun({"train": {"kimg": 9}}, metrics, records, (renders / "samples.png").read_bytes())
    sources = Sources("A run", facts, parameters, METRICS, evaluation, renders, training, rejects)
    page = build_report(replace(sources, commit="0123456789ab", others={"name_without_spaces_" * 6: other}))
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
    cut = page.evaluate(
        """width => [...document.querySelectorAll(
                'h1, h2, h3, p, dd, td, th, pre, a, img, video, canvas, svg, figcaption')]
            .filter(part => part.getBoundingClientRect().right > width + 1)
            .map(part => part.outerHTML.slice(0, 80))""",
        width,
    )
    assert cut == []
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('p, td, dd, figcaption')]
            .map(part => parseFloat(getComputedStyle(part).fontSize)))"""
    )
    assert smallest >= 12, "pixels; smaller print is not readable on a telephone"


def redness(page) -> np.ndarray:
    """How red the middle row of the canvas is, from left to right, at 100 places."""
    canvas = decode_image(page.locator("canvas").screenshot())
    middle = cv2.resize(canvas, (100, 100), interpolation=cv2.INTER_AREA)[50].astype(int)
    return middle[:, 0] - middle[:, 1]


def test_an_image_opens_at_full_size_and_a_mesh_turns(open_page, page_file):
    watched = open_page(1280)
    page = watched.page
    page.goto(page_file.as_uri())
    image = page.locator("#images img").first
    image.click()
    assert page.evaluate("document.querySelector('dialog img').width") == 1600, "its own size, wider than the page"
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()

    page.locator("canvas").scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    before = redness(page)
    assert before[90] > before[10] + 100, "+x is at the right as seen from +z"
    page.locator("canvas").focus()
    for _ in range(31):  # of 0.1 radians: half a turn, nearly
        page.keyboard.press("ArrowRight")
    after = redness(page)
    assert after[10] > after[90] + 100, "from behind, +x is at the left"
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 50 - 310, box["y"] + 50, steps=5)  # 0.01 radians a pixel
    page.mouse.up()
    assert np.abs(redness(page) - before).mean() < 10
    assert watched.errors == []
