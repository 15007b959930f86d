"""The commands of docs/your_data.md, followed literally in a copy of the project with tiny sizes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest
import transformers
import trimesh
import yaml
from PIL import Image
from test_real_presets import SMALLER, merge, project

COMMANDS = {"threedgp": "-m threedgp", "dvc": "-m dvc"}


def depth_anything(folder: Path) -> Path:
    """A tiny estimator with random weights, saved as the published ones are."""
    vit = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2}
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"], "reshape_hidden_states": False}
    backbone = {**vit, **stages, "model_type": "dinov2", "image_size": 56, "patch_size": 14}
    sizes = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "reassemble_hidden_size": 16}
    config = transformers.DepthAnythingConfig(backbone_config=backbone, **sizes, head_hidden_size=8, patch_size=14)
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    size = {"height": 56, "width": 56}
    transformers.DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)
    return folder


def blocks(page: Path) -> list[list[str]]:
    """The commands of each block of the page."""
    found = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [[line.partition("#")[0].strip() for line in block.splitlines()] for block in found]


def run(place: Path, command: str) -> str:
    program, _, rest = command.partition(" ")
    environment = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    arguments = f"{COMMANDS[program]} {rest}".split()
    result = subprocess.run([sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


def shrink(params: Path, **changes: dict[str, object]) -> None:
    values = yaml.safe_load(params.read_text())
    for one in (SMALLER, changes):
        merge(values, one)
    params.write_text(yaml.safe_dump(values))


@pytest.mark.slow
def test_from_folder_to_film(tmp_path: Path, root: Path) -> None:
    photographs, pairs, *rest = blocks(root / "docs/your_data.md")
    place = project(tmp_path, root)
    (place / "docs").mkdir()
    (place / "docs/rgbd_example").symlink_to(root / "docs/rgbd_example")
    (place / "presets").symlink_to(root / "presets")
    params = place / "params.yaml"
    params.write_bytes((root / "params.yaml").read_bytes())
    for number in range(20):
        image = tmp_path / "cows" / ("cow" if number % 2 else "calf") / f"{number}.{('jpg', 'tif', 'avif')[number % 3]}"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_mandelbrot((64, 48), (-2.0, -1.0, 1.0, 1.0), 10 + number).convert("RGB").save(image)
    (tmp_path / "cows/cow/broken.jpg").write_bytes(b"no image")

    assert "Images: 8" in run(place, *pairs)
    run(place, "threedgp check")
    said = run(place, *photographs)
    assert "Images: 21" in said and "cow (11), calf (10)" in said and "Left out: 1" in said
    shrink(params, depth={"weights": str(depth_anything(tmp_path / "estimator"))})

    said = "".join(run(place, command) for block in rest for command in block)
    assert "cows (folder, 16 px)" in said and "images/s: measured" in said
    assert "prepare: 1 of 21 images were left out" in said and "no known image format" in said
    assert "3DGP on cows" in (place / "results/report.html").read_text(encoding="utf-8")
    assert len(list((place / "pictures").glob("seed*.png"))) >= 8
    (film, *_) = (place / "films").glob("*.mp4")
    with av.open(str(film)) as video:
        assert next(video.decode(video=0)).width == 128
    (mesh,) = (place / "meshes").glob("*.glb")
    assert trimesh.load(mesh) is not None
