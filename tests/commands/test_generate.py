"""``threedgp generate`` writes the requested images, the same ones each time, and continues where it stopped."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from threedgp import __version__
from threedgp.camera.normals import depth_normals
from threedgp.camera.priors import frontal_cameras
from threedgp.models.generator import RenderOptions
from threedgp.models.sampler import sample_scenes
from threedgp.visual.grids import GAP, LABEL_HEIGHT, read_depth
from threedgp.visual.styles import scene_styles
from threedgp.visual.views import posterior_cameras


def read(file) -> np.ndarray:
    return cv2.imread(str(file))[..., ::-1]


def expected(generator, label: int, seed: int, truncation: float, towards: str = "all", size: int = 16, own=True):
    """Image and depth by the generator's own methods."""
    scenes = sample_scenes(generator, 1, 0, start=seed, labels=[label])
    planes = generator.make_content(scene_styles(generator, scenes, truncation, towards))
    camera = posterior_cameras(generator, scenes) if own else frontal_cameras(generator.camera_config, 1)
    seen = generator.render(planes, camera, size, RenderOptions(sampling_multiplier=2))
    rgb = (seen.rgb[0].permute(1, 2, 0).numpy() * 127.5 + 127.5).clip(0, 255)
    return rgb, seen.depth[0, 0].numpy()


def test_images_depth_normals_and_grid(threedgp, model_folder, tiny_generator, tmp_path):
    options = ("--seeds", "2-3", "--classes", "ball,0", "--truncation", "0.7", "--depth", "--normals", "--grid")
    outcome = threedgp("generate", model_folder, *options, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    names = [f"seed{seed:04d}_class{label:03d}_truncation0.7" for label in (1, 0) for seed in (2, 3)]
    files = {f"{name}{kind}.png" for name in [*names, "grid"] for kind in ("", "_depth", "_normals")}
    assert {file.name for file in tmp_path.iterdir()} == files | {"made.jsonl"}
    assert f"{tmp_path}: 4 images, and all of them in grid.png; 15 files written.\n" in outcome.out
    rgb, depth = expected(tiny_generator, 1, 3, 0.7)
    # Rounding of a value and of color, and what the last 0.01 % of the light adds.
    assert np.abs(read(tmp_path / "seed0003_class001_truncation0.7.png") - rgb).max() <= 0.6
    near, far = tiny_generator.camera_config.ray_start, tiny_generator.camera_config.ray_end
    found = read_depth(tmp_path / "seed0003_class001_truncation0.7_depth.png", (near, far))
    np.testing.assert_allclose(found, depth.clip(near, far), atol=1e-4)
    sheet, factor = read(tmp_path / "grid.png"), 96 // 16
    assert sheet.shape[:2] == (factor * (2 * (16 + GAP) + GAP),) * 2  # a row for each class
    place = slice(factor * (16 + 2 * GAP), factor * (16 + 2 * GAP) + 96)
    tile = read(tmp_path / "seed0003_class000_truncation0.7.png").repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(sheet[place, place], tile)


def test_sweep_front_camera_size_and_class_centre(threedgp, model_folder, tiny_generator, tmp_path):
    options = ("--seeds", 1, "--classes", 1, "--truncation", "0,0.5", "--towards", "class", "--camera", "front")
    outcome = threedgp("generate", model_folder, *options, "--size", 24, "--grid", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    for truncation in (0, 0.5):
        rgb, _ = expected(tiny_generator, 1, 1, truncation, "class", 24, own=False)
        assert np.abs(read(tmp_path / f"seed0001_class001_truncation{truncation:g}.png") - rgb).max() <= 0.6
    assert read(tmp_path / "grid.png").shape[0] > read(tmp_path / "grid.png").shape[1]  # a row for each truncation


def test_normals_are_those_of_the_depth(threedgp, model_folder, tiny_generator, tmp_path):
    threedgp("generate", model_folder, "--seeds", 3, "--classes", 1, "--normals", "--out", tmp_path)
    scenes = sample_scenes(tiny_generator, 1, 0, start=3, labels=[1])
    _, depth = expected(tiny_generator, 1, 3, 1.0)
    normals = depth_normals(depth[None], posterior_cameras(tiny_generator, scenes)[:, 3].numpy())[0]
    assert np.abs(read(tmp_path / "seed0003_class001_normals.png") - (normals + 1) * 127.5).mean() < 1


def test_an_image_depends_on_its_seed_alone_and_the_run_goes_on(threedgp, model_folder, tmp_path):
    threedgp("generate", model_folder, "--seeds", "0-3", "--out", tmp_path / "all")
    pictures = {file.name: file.read_bytes() for file in (tmp_path / "all").glob("*.png")}
    assert len(pictures) == 4
    threedgp("generate", model_folder, "--seeds", "3,1", "--out", tmp_path / "some")

    def times():
        return {file.name: file.stat().st_mtime_ns for file in (tmp_path / "some").glob("*.png")}

    def drawn_since(before):
        return sorted(name[:8] for name, time in times().items() if before.get(name) != time)

    before = times()
    outcome = threedgp("generate", model_folder, "--seeds", "0-3", "--out", tmp_path / "some")
    assert "generate: 4/4 images" in outcome.out
    assert drawn_since(before) == ["seed0000", "seed0002"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "some").glob("*.png")} == pictures
    before = times()
    threedgp("generate", model_folder, "--seeds", "0", "--truncation", "0.5", "--out", tmp_path / "some")
    (added,) = set(times()) - set(before)
    assert added.startswith("seed0000_class") and added.endswith("_truncation0.5.png")
    assert {name: times()[name] for name in before} == before, "an image of another truncation stays"
    records = [json.loads(line) for line in (tmp_path / "some" / "made.jsonl").read_text().splitlines()]
    assert records[-1]["truncation"] == 0.5 and len(records[-1]["model"]) == 64


def test_an_image_says_what_it_shows(threedgp, model_folder, tmp_path):
    outcome = threedgp("generate", model_folder, "--seeds", 3, "--classes", "ball", "--depth", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    (record, _) = map(json.loads, (tmp_path / "made.jsonl").read_text().splitlines())
    for kind in ("", "_depth"):
        assert Image.open(tmp_path / f"seed0003_class001{kind}.png").text == {
            "Software": f"threedgp {__version__}",
            "model sha256": record["model"],
            "seed": "3",
            "class": "1 ball",
            "truncation": "1",
        }


def test_labels_stand_above_the_images(threedgp, refused, model_folder, tmp_path):
    command = ("generate", model_folder, "--seeds", "0-1", "--classes", "0,1", "--grid", "--out", tmp_path)
    assert threedgp(*command).code == 0
    plain = read(tmp_path / "grid.png")
    assert "1 file written, 4 there already, 1 of the written ones replaced" in threedgp(*command, "--labels").out
    labeled, row = read(tmp_path / "grid.png"), 96 // 16 * (16 + GAP)
    assert labeled.shape[0] == plain.shape[0] + 2 * LABEL_HEIGHT
    for number in range(2):
        place = slice(number * row, (number + 1) * row)
        moved = slice(place.start + (number + 1) * LABEL_HEIGHT, place.stop + (number + 1) * LABEL_HEIGHT)
        np.testing.assert_array_equal(labeled[moved], plain[place])
        strip = labeled[moved.start - LABEL_HEIGHT : moved.start]
        for column in (slice(0, row), slice(row, 2 * row)):
            assert strip[:, column].min() < 40, "dark letters"
    assert refused(*command[:-3], "--labels", "--out", tmp_path) == "--labels: needs --grid, whose images they name."


@pytest.mark.parametrize("kind", ["", "_depth", "_normals"])
@pytest.mark.parametrize(
    "content", [b"", b"no picture", cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()]
)
def test_an_image_that_somebody_spoilt_is_named(threedgp, refused, model_folder, tmp_path, kind, content):
    command = ("generate", model_folder, "--seeds", "0-1", "--classes", 0, "--depth", "--normals", "--out", tmp_path)
    threedgp(*command)
    spoilt = tmp_path / f"seed0001_class000{kind}.png"
    spoilt.write_bytes(content)
    assert refused(*command, "--grid").startswith(f"{spoilt}: this is not the image that was generated; delete it")
    spoilt.unlink()
    assert threedgp(*command, "--grid").code == 0


def test_output_that_cannot_be_written(refused, model_folder, tmp_path):
    (tmp_path / "file").write_text("")
    told = refused("generate", model_folder, "--out", tmp_path / "file")
    assert told.startswith(f"--out: {tmp_path / 'file'} cannot be written (File exists)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--truncation", "2"), "--truncation: expected a number from 0 to 1"),
        (("--seeds", "0-1024", "--grid"), "--grid: 1,025 images are too many"),
    ],
)
def test_options_that_cannot_be(refused, model_folder, tmp_path, options, message):
    assert message in refused("generate", model_folder, *options, "--out", tmp_path)
