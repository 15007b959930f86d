"""`threedgp lift`: images on given or estimated depth, from cameras of the prior."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from threedgp.camera.priors import frontal_cameras
from threedgp.config import CameraConfig, load_config
from threedgp.depth.estimator import Estimate
from threedgp.evaluation.sample_files import open_samples
from threedgp.visual.layers import render_layers, split_layers

SIZE = 24


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images with depth maps beside them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    for name in ("a", "b/c", "d"):
        gray = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)  # videos halve the resolution of colors
        Image.fromarray(gray).convert("RGB").save(folder / f"{name}.png")
        np.save(folder / f"{name}_depth.npy", rng.random((SIZE, SIZE), dtype=np.float32))
    return folder


@pytest.fixture
def params(tmp_path: Path) -> Path:
    file = tmp_path / "params.yaml"
    file.write_text(
        "dataset: {name: x, source: procedural, resolution: 16}\ncamera: {prior: fixed}\n"
        "model: {discriminator: {patch_resolution: 16}}\ndepth: {estimator: simulated}\n"
    )
    return file


def test_fixed_prior_shows_the_images_themselves(images, params, tmp_path, threedgp) -> None:
    """A prior without width is the source camera, which sees the source image; its samples can be evaluated."""
    out = tmp_path / "out"
    options = ("--depth", images, "--params", params, "--size", SIZE, "--out", out)
    result = threedgp("lift", images, *options)
    assert result.code == 0 and "3 images; 3 files written." in result.out
    for name, file in (("a", "00000000"), ("b/c", "00000001"), ("d", "00000002")):
        made, source = (np.asarray(Image.open(path), int) for path in (out / f"{file}.png", images / f"{name}.png"))
        assert np.abs(made - source).max() <= 1  # rounding
    assert len(open_samples(out, None, None, SIZE, tmp_path).images) == 3

    before = (out / "00000001.png").stat().st_mtime_ns
    (out / "00000002.png").unlink()
    assert "1 file written, 2 there already" in threedgp("lift", images, *options).out
    assert (out / "00000001.png").stat().st_mtime_ns == before and (out / "00000002.png").is_file()


def test_wide_prior_draws_a_camera_for_each_image_and_seed(images, params, tmp_path, threedgp) -> None:
    params.write_text(params.read_text().replace("prior: fixed", "prior: uniform"))
    made = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        out = tmp_path / name
        assert threedgp("lift", images, "--depth", images, "--params", params, "--seed", seed, "--out", out).code == 0
        made[name] = [file.read_bytes() for file in sorted(out.glob("*.png"))]
        assert Image.open(out / "00000000.png").size == (16, 16)  # dataset.resolution
    assert made["one"] == made["again"]
    assert all(a != b for a, b in zip(made["one"], made["other"], strict=True))


def test_path_gives_videos(images, params, tmp_path, threedgp) -> None:
    out = tmp_path / "out"
    options = ("--depth", images, "--params", params, "--path", "line", "--frames", 5, "--size", SIZE, "--out", out)
    assert threedgp("lift", images, *options).code == 0
    assert sorted(file.name for file in out.glob("*.mp4")) == [f"{number:08d}_line.mp4" for number in range(3)]
    with av.open(str(out / "00000000_line.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 5
    image = np.asarray(Image.open(images / "a.png"))
    depth = np.load(images / "a_depth.npy")
    config: CameraConfig = load_config(params).camera
    middle = frontal_cameras(config, 1)
    layers = split_layers(image, depth, middle[0], config.ray_start, config.ray_end)
    (expected,) = render_layers(layers, middle)  # the middle of the line
    # Noise is the worst case for the video's compression; unrelated frames differ by 85.
    assert np.abs(frames[2].astype(int) - expected).mean() < 10


def test_estimated_depth(images, params, tmp_path, threedgp, monkeypatch) -> None:
    """The estimator's maps give the same images as maps in files."""

    class Reader:
        name, looks_at_pixels = "reader", True

        def estimate(self, pictures):
            files = {"00000000": "a", "00000001": "b/c", "00000002": "d"}
            return [Estimate(np.load(images / f"{files[picture.id]}_depth.npy")) for picture in pictures]

    params.write_text(params.read_text().replace("prior: fixed", "prior: uniform"))
    monkeypatch.setattr("threedgp.depth.estimator.build_estimator", lambda *_: Reader())
    options = ("--params", params, "--size", SIZE)
    assert threedgp("lift", images, *options, "--estimator", "dpt", "--out", tmp_path / "one").code == 0
    assert threedgp("lift", images, *options, "--depth", images, "--out", tmp_path / "two").code == 0
    for file in sorted((tmp_path / "one").glob("*.png")):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_refusals(images, params, tmp_path, refused) -> None:
    options = ("--params", params, "--out", tmp_path / "out")
    assert "leave one out" in refused("lift", images, "--depth", images, "--estimator", "dpt", *options)
    message = refused("lift", images, "--depth", images, "--params", params, "--out", images / "b/out")
    assert message.startswith("--out: ") and "choose another folder" in message, "the next run would lift its results"
    assert "--frames and --fps: are for videos" in refused("lift", images, "--frames", "8", *options)
    assert "a path has no random cameras" in refused("lift", images, "--path", "line", "--seed", "3", *options)
    assert "does not estimate depth from pixels" in refused("lift", images, *options)
    assert "--estimator: 'dtp'" in refused("lift", images, "--estimator", "dtp", *options)
    assert "no such folder" in refused("lift", tmp_path / "missing", "--depth", images, *options)
    (images / "d_depth.npy").write_text("broken")
    assert "d_depth.npy: is not a depth map" in refused("lift", images, "--depth", images, *options)
