"""``threedgp new``: settings for one's own images, and what it says about them."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Command
from genuine_formats import encoded, hub_table, picture, write_hub_files
from threedgp.commands import new
from threedgp.commands.new import ESTIMATOR
from threedgp.config import Config, load_config

pytestmark = pytest.mark.usefixtures("empty_machine")
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def params(root: Path, empty_machine: None) -> Path:
    shutil.copy(root / "params.yaml", "params.yaml")
    return Path("params.yaml")


def cows(folder: Path, count: int = 40, side: int = 50) -> Path:
    """Images of two classes, three that cannot be used, and a file of another kind."""
    for number in range(count):
        file = folder / ("cow" if number % 4 else "horse") / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side + 30, side)).save(file)
    Image.new("RGB", (50, 50)).save(folder / "outside.png")
    Image.new("RGB", (50, 2)).save(folder / "cow/flat.png")
    (folder / "cow/broken.jpg").write_bytes(b"not an image")
    (folder / "cow/notes.txt").touch()
    return folder


def loaded() -> Config:
    return load_config("params.yaml", complete=True)


def test_folder(threedgp: Command) -> None:
    cows(Path("photos"))
    code, out, err = threedgp("new", "cows", "--images", "photos", "--device", "cpu")
    assert (code, err) == (0, "")
    config = loaded()
    data = config.dataset
    assert (data.name, data.source, data.path, data.resolution) == ("cows", "folder", "photos", 32)
    assert config.model.class_conditional and config.report.title == "3DGP on cows"
    assert config.depth.estimator == ESTIMATOR and "Small" in config.depth.weights
    assert config.train.metric_samples <= 40 and config.train.kimg == 20
    assert "Images: 43" in out and "cow (32), horse (10)" in out
    assert "1 .txt" in out and "Left out: 1 (no known image format)" in out and "Left out: 1 (lies outside" in out
    assert "Left out: 1 (fewer than 4 px, too few for 32)" in out
    assert "JPEG, PNG, WEBP" in out and "AVIF" in out and "each of yours about 500 times" in out
    assert threedgp("check").code == 0


def test_names_in_an_archive_do_not_control_the_terminal(threedgp: Command) -> None:
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for number in range(10):
            archive.writestr(f"cow\x1b[2J/{number}.png", encoded(picture(number, 40, 40), "PNG"))
    code, out, _ = threedgp("new", "cows", "--images", "photos.zip", "--device", "cpu")
    assert code == 0 and "\x1b" not in out and "cow\\x1b[2J (10)" in out


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives(threedgp: Command, kind: str) -> None:
    folder = cows(Path("photos"))
    files = [file for file in folder.rglob("*") if file.is_file()]
    if kind == "zip":
        with zipfile.ZipFile("in.zip", "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open("in.tar", "w") as archive:
            for file in files:
                archive.add(file, file.relative_to(folder))
    code, out, _ = threedgp("new", "cows", "--images", f"in.{kind}")
    assert code == 0 and loaded().dataset.path == f"in.{kind}"
    assert "Images: 43" in out and "cow (32), horse (10)" in out and "Left out: 1 (no known image format)" in out


@pytest.mark.parametrize("layout", ["beside", "folders"])
def test_images_with_depth(threedgp: Command, layout: str) -> None:
    depth = np.full((40, 40), 1000, np.uint16)
    for number in range(12):
        image, map = (f"in/{number}.jpg", f"in/{number}_depth.png")
        if layout == "folders":
            image, map = (f"in/images/{number}.jpg", f"in/depth/{number}.png")
        for file, content in ((image, Image.new("RGB", (40, 40))), (map, Image.fromarray(depth))):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            content.save(file)
    Path(map).unlink()
    places = ("in", "in") if layout == "beside" else ("in/images", "in/depth")
    code, out, _ = threedgp("new", "mine", "--images", places[0], "--depth", places[1])
    assert code == 0 and "Images: 12" in out and "Left out: 1 (no depth map)" in out
    config = loaded()
    assert (config.dataset.source, config.dataset.path, config.depth.estimator) == ("rgbd", "in", "sidecar")
    assert not config.model.class_conditional and threedgp("check").code == 0


def test_labels_beside_images_with_depth(threedgp: Command) -> None:
    Path("in").mkdir()
    for number in range(12):
        Image.new("RGB", (40, 40)).save(f"in/{number}.jpg")
        Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(f"in/{number}_depth.png")
    Path("in/dataset.json").write_text(json.dumps({"labels": [[f"{number}.jpg", number % 2] for number in range(11)]}))
    code, out, _ = threedgp("new", "mine", "--images", "in", "--depth", "in")
    assert code == 0 and "Classes: 2: 0 (6), 1 (5)." in out and "Left out: 1 (not in dataset.json)" in out
    assert loaded().model.class_conditional


def test_parquet_folder_and_hub(threedgp: Command, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [encoded(picture(number, 32, 32), "PNG") for number in range(20)]
    write_hub_files(Path("in/data"), [hub_table(pictures, [-1] + [0] * 4 + [1] * 15, ["cat", "dog"])])
    code, out, _ = threedgp("new", "pets", "--images", "in")
    assert code == 0 and loaded().dataset.source == "hub" and "Images: 20" in out
    assert "dog (15), cat (4)" in out and "Left out: 1 (has no label)" in out
    write_hub_files(Path("unnamed"), [hub_table(pictures, [0] * 4 + [1] * 16)])
    code, out, _ = threedgp("new", "pets", "--images", "unnamed")
    assert code == 0 and "Classes: 2: 1 (16), 0 (4)." in out and loaded().model.class_conditional
    monkeypatch.setenv("HOME", str(Path.cwd()))  # bash leaves the ~ of --images=~/in as it is
    code, out, _ = threedgp("new", "pets", "--images=~/in")
    assert code == 0 and loaded().dataset.path == "~/in" and loaded().dataset.source == "hub" and "Images: 20" in out
    import huggingface_hub

    labels = {"name": "label", "dtype": {"class_label": {"names": {"0": "cat", "1": "dog"}}}}
    card = {"dataset_info": {"features": [labels], "splits": [{"name": "train", "num_examples": 5000}]}}

    def answer(self, repo, **options):
        cards = {"who/silent": None, "who/vague": huggingface_hub.DatasetCardData(dataset_info={"features": [labels]})}
        data = cards.get(repo, huggingface_hub.DatasetCardData(**card))
        return huggingface_hub.hf_api.DatasetInfo(id=repo, sha="0", siblings=[], cardData=data and data.to_dict())

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", answer)
    code, out, _ = threedgp("new", "pets", "--images", "who/pets", "--resolution", "64")
    config = loaded()
    assert code == 0 and config.dataset.path == "who/pets" and config.dataset.resolution == 64
    assert (
        "Images: 5,000" in out
        and "Classes: 2: cat, dog." in out
        and config.train.kimg == 400
        and threedgp("check").code == 0
    )
    for name in ("who/silent", "who/vague"):
        message = refused("new", "a", "--images", name)
        assert message.startswith(f"--images: there is no '{name}' here, so it was looked up on the hub; {name}: its ")


@pytest.mark.parametrize(
    ("resolution", "base"), [(16, "cifar10"), (64, "cifar10"), (128, "toy_gpu"), (256, "imagenet")]
)
def test_scales(threedgp: Command, resolution: int, base: str) -> None:
    cows(Path("photos"), side=128)
    code, out, _ = threedgp("new", "cows", "--images", "photos", "--resolution", resolution, "--estimator", "leres")
    config = loaded()
    assert code == 0 and config.dataset.resolution == resolution and f"preset {base}," in out
    assert config.depth.estimator == "leres" and config.depth.weights is None
    for schedule in (config.train.density_noise, config.train.patch_scale_beta, config.train.raw_depth_probability):
        assert schedule.over.endswith("%"), "the length of the published run does not fit a short one"


def test_batch_fits_into_the_memory_of_the_gpu(threedgp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    cows(Path("photos"), side=128)
    monkeypatch.setattr(new, "_gpu_memory", lambda: 4_000_000_000)
    code, out, _ = threedgp("new", "cows", "--images", "photos")
    train = loaded().train
    assert code == 0 and loaded().dataset.resolution == 128 and "for training on a GPU" in out
    assert train.accumulation > 1 and f"Batch: 32 images, {32 // train.accumulation} at once" in out
    monkeypatch.setattr(new, "_gpu_memory", lambda: 80_000_000_000)
    assert threedgp("new", "cows", "--images", "photos").code == 0 and loaded().train.accumulation == 1


def test_published_schedules_in_shares_of_the_run(threedgp: Command) -> None:
    cows(Path("photos"))
    assert threedgp("new", "cows", "--images", "photos", "--resolution", 256).code == 0
    train = loaded().train
    assert (train.density_noise.over, train.blur_sigma.over, train.patch_scale_beta.over) == ("20%", "0.8%", "40%")
    assert train.camera_regularizer.anneal == "40%"
    assert train.distillation.weight.end == pytest.approx(0.75), "25,000 of 100,000 kimg of the ramp from 1 to 0"


def test_replaces_its_own_settings_and_no_others(threedgp: Command, refused: Refused, params: Path) -> None:
    cows(Path("photos"))
    assert threedgp("new", "cows", "--images", "photos").code == 0
    assert threedgp("new", "cattle", "--images", "photos", "--resolution", 16).code == 0
    assert threedgp("preset", "toy").code == 0 and threedgp("new", "cows", "--images", "photos").code == 0
    edited = params.read_text().replace("kimg: 20 ", "kimg: 21 ")
    params.write_text(edited)
    assert "was edited" in refused("new", "cows", "--images", "photos") and params.read_text() == edited
    assert threedgp("new", "cows", "--images", "photos", "--force").code == 0 and loaded().train.kimg == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "--images", "photos"], "NAME: 'toy' is the data set of a preset"),
        (["../x", "--images", "photos"], "dataset.name: '../x' is not a name"),
        (["a", "--images", "nowhere"], "--images: there is no 'nowhere'"),
        (["a", "--images", "params.yaml"], "--images: params.yaml is neither a folder nor a zip file"),
        (["a", "--images", "few"], "--images: few has 3 images that can be used at 32 px; 8 are needed"),
        (["a", "--images", "none"], "--images: none holds no images"),
        (["a", "--images", "photos", "--estimator", "mogee"], "--estimator: there is no 'mogee'; choose one of"),
        (["a", "--images", "photos", "--resolution", "100"], "dataset.resolution: 100 is not a power of two"),
        (["a", "--images", "photos", "--resolution", "0"], "dataset.resolution: input should be greater"),
        (["a", "--images", "photos", "--resolution", "8192"], "can be used at 8192 px; 8 are needed"),
        (["a", "--images", "photos", "--estimator", "sidecar"], "depth.estimator: 'sidecar' needs depth maps"),
        (["a", "--images", "photos", "--depth", "few"], "--depth: few is neither the folder of the images nor"),
        (["a", "--images", "photos", "--depth", "photos"], "--depth: no image has a depth map"),
    ],
)
def test_bad_input(refused: Refused, params: Path, arguments: list[str], message: str) -> None:
    cows(Path("photos"))
    for number in range(3):
        Path("few").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40)).save(f"few/{number}.png")
    Path("none").mkdir()
    before = params.read_bytes()
    assert message in refused("new", *arguments)
    assert params.read_bytes() == before
