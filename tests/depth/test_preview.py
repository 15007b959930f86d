"""The contact sheet of images beside their depth, and the command that writes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import stages.depth
import stages.download
import stages.prepare
from threedgp.data import schemas
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import Rejected
from threedgp.depth.preview import GAP, MIN_TILE, NO_DEPTH_COLOR, PAIRS

SETTINGS = """
dataset: {name: tiny, source: procedural, resolution: 16}
model: {discriminator: {patch_resolution: 8}}
download: {count: 40, resolution: 32}
prepare: {shard_rows: 10}
depth: {estimator: ESTIMATOR}
embed: {network: none}
train: {distillation: {loss: none}}
"""
DATA = Path("data/tiny")
WIDTH, HEIGHT = 2 * MIN_TILE + 2 * GAP, MIN_TILE + 2 * GAP


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of 40 images whose stages up to `select` have run."""
    shutil.copy(root / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    set_estimator("simulated")
    stages.download.main(Path("params.yaml"))
    stages.prepare.main(Path("params.yaml"))
    writer = ShardWriter(DATA / "selected", schemas.SELECTED, "selected", {}, part_name="ids.parquet")
    ids = ShardFolder(DATA / "prepared").read(0, ["id", "label"])
    more = [ShardFolder(DATA / "prepared").read(shard, ["id", "label"]) for shard in (1, 3)]
    writer.write(0, pa.concat_tables([ids, *more]).cast(schemas.SELECTED))
    writer.finish()
    return tmp_path


def set_estimator(name: str) -> None:
    Path("params.yaml").write_text(SETTINGS.replace("ESTIMATOR", name))


def show(rows: int) -> NDArray[np.uint8]:
    stages.depth.main(Path("params.yaml"), Path("out.png"), rows)
    return cv2.imread("out.png", cv2.IMREAD_COLOR_RGB)


def tiles(sheet: NDArray[np.uint8]) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Photographs and depth."""
    found = []
    for top in range(GAP, len(sheet), HEIGHT):
        for left in range(GAP, sheet.shape[1], WIDTH):
            pair = sheet[top : top + MIN_TILE, left : left + 2 * MIN_TILE]
            found.append((pair[:, :MIN_TILE], pair[:, MIN_TILE:]))
    return found


def test_near_is_dark_and_far_is_bright(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_estimator("sidecar")  # the truth
    before = contents(project)
    sheet = show(2)
    assert sheet.shape == (2 * HEIGHT, PAIRS * WIDTH, 3)
    assert "out.png: images beside their depth by 'sidecar'." in capsys.readouterr().out
    assert contents(project) == before  # no output, no scratch, no lock
    raw = ShardFolder(DATA / "raw").read(0)
    truth = np.frombuffer(raw["depth"][0].as_py(), "<f4").reshape(32, 32)
    photograph, depth = tiles(sheet)[0]
    assert (depth[..., 0] == depth[..., 2]).all() and depth.min() == 0 and depth.max() == 255
    picture = cv2.imdecode(np.frombuffer(raw["image"][0].as_py(), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(photograph, cv2.resize(picture, (128, 128)))
    small = cv2.resize(depth[..., 0], (32, 32), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), truth.ravel())[0, 1] > 0.9  # larger = farther = brighter


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "out.png"]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_images_come_from_the_whole_set(project: Path) -> None:
    """Shard 2 has no selected image; each of the others contributes some."""
    ids = ShardFolder(DATA / "selected").column("id").to_pylist()
    found = [photograph for photograph, _ in tiles(show(6))]
    assert len(found) == 20  # five rows
    images = {}
    for row in ShardFolder(DATA / "raw").read(0).to_pylist():
        picture = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
        images[cv2.resize(picture, (128, 128)).tobytes()] = row["id"]
    shown = [images[photograph.tobytes()] for photograph in found if (photograph != 255).any()]
    assert len(shown) == len(set(shown)) == 18 and set(shown) <= set(ids)
    assert {int(name) // 10 for name in shown} == {0, 1, 3}


def test_files_of_a_stopped_run_are_kept(project: Path) -> None:
    place = Path(".scratch/depth/0123/depth")
    place.mkdir(parents=True)
    (place / "part-00000.parquet").write_bytes(b"half a run")
    DATA.joinpath("depth").mkdir()
    (DATA / "depth/manifest.json").write_text("{}")
    before = contents(project)
    show(1)
    assert contents(project) == before


def test_images_without_depth_are_red_and_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        name, looks_at_pixels = "failing", True

        def estimate(self, pictures: list[RawPicture]) -> list[Rejected]:
            return [Rejected("no depth here") for _ in pictures]

    monkeypatch.setattr(stages.depth, "build_estimator", lambda *arguments: Failing())
    for photograph, depth in tiles(show(1)):
        assert (depth == NO_DEPTH_COLOR).all() and not (photograph == NO_DEPTH_COLOR).all()
    assert capsys.readouterr().out.count("no depth here") == PAIRS


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda: shutil.rmtree(DATA / "selected"), "data/tiny/selected"),
        (lambda: set_estimator("zoedepth, weights: nowhere/model"), "depth.weights: nowhere/model"),
        (lambda: set_estimator("nonsense"), "depth.estimator"),
    ],
)
def test_missing_inputs_are_named(prepare, message: str, project: Path, capsys: pytest.CaptureFixture[str]):
    prepare()
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        show(1)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith("error: ") and message in line


def test_rows_are_those_of_a_preview(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        stages.depth.main(Path("params.yaml"), None, 2)
    assert end.value.code == 2 and capsys.readouterr().err.startswith("error: --rows: needs --preview")


@pytest.mark.parametrize("target", ["dd.png", "params.yaml/out.png", "/proc/out.png"])
def test_an_unwritable_target_is_found_before_the_work(
    target: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("dd.png").mkdir()
    monkeypatch.setattr(stages.depth, "build_estimator", lambda *arguments: pytest.fail("the estimator was built"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        stages.depth.main(Path("params.yaml"), Path(target), 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith(f"error: --preview: {target} ")


def test_a_write_that_fails_after_the_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(stages.depth, "write_bytes", fail)
    with pytest.raises(SystemExit) as end:
        show(1)
    assert end.value.code == 2
    assert "error: --preview: out.png cannot be written (Permission denied)" in capsys.readouterr().err


def test_only_png(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        stages.depth.main(Path("params.yaml"), Path("out.jpg"), 1)
    assert end.value.code == 2 and "name it .png, not out.jpg" in capsys.readouterr().err
