"""``threedgp push``: a model goes to the hub with its card, and comes back as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from fetch.hub_server import publish
from fetch.hub_uploads import TOKEN, UploadHub
from fetch.misbehaving import Server

import threedgp
from threedgp.cli import main
from threedgp.commands.model_card import teachers, used_weights
from threedgp.commands.options import DEMO
from threedgp.config import parse_config

COMPARISON = {
    "metric": "fd_efficientnet_lite0", "title": "Fréchet distance", "description": "", "better": "lower", "unit": "",
    "values": {"model": 743.0, "untrained": 4383.0, "other_half": 122.0},
}  # fmt: skip
WORSE = COMPARISON | {
    "metric": "nfs",
    "title": "Non-flatness",
    "better": "higher",
    "values": {"model": 5, "untrained": 7},
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    server = UploadHub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["threedgp", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        return (leaving.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The model of a run with its evaluation, as the stages leave them; the weights are those of the demo."""
    folder = tmp_path / "results"
    (folder / "evaluation").mkdir(parents=True)
    shutil.copytree(DEMO, folder / "model", ignore=shutil.ignore_patterns("README.md"))
    config = parse_config({"dataset": {"source": "imagenet"}})
    settings = config.model_dump(mode="json", include={"train", "camera"}) | {"features.network": "inception"}
    data = {"dataset": "animals", "estimator": "leres", "embedder": "efficientnet_lite0", "rows": 12288}
    write(folder / "model/run.json", {"settings": settings, "data": data})
    sha256 = hashlib.sha256((folder / "model/model.safetensors").read_bytes()).hexdigest()
    write(folder / "evaluation/model.json", {"sha256": sha256})
    write(folder / "evaluation/comparisons.json", [COMPARISON, WORSE])
    write(folder / "metrics.json", {"samples": 2048, "images_per_second": 67.3, "kimg": 240})
    return folder


def write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content))


def test_a_pushed_model_can_be_loaded(hub: UploadHub, run, results: Path, server: Server, monkeypatch) -> None:
    (results / "model/discriminator.safetensors").write_bytes(bytes(20_000))
    code, out, err = run("push", results / "model", "ann/toys", "--license", "apache-2.0", "--private")
    assert (code, err) == (0, ""), err
    assert f"{hub.url}/ann/toys: 7 files.\n" in out
    assert hub.created[0]["name"] == "toys" and hub.created[0]["organization"] == "ann"
    assert hub.created[0]["visibility"] == "private" and hub.messages == ["Upload a model of threedgp"]
    files = hub.repositories["ann/toys"]
    names = {"model.safetensors", "discriminator.safetensors", "config.json", "run.json", "README.md"}
    assert set(files) == names | {"samples.png", "depth.png"}
    for name in names - {"README.md"}:
        assert files[name] == (results / "model" / name).read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    publish(server, "ann/toys", files)
    model = threedgp.load("hf://ann/toys", "cpu")
    assert not (model.folder / "discriminator.safetensors").exists(), "only training needs it"
    images = model.sample(range(8)).render()
    grid = cv2.imdecode(np.frombuffer(files["samples.png"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    factor = grid.shape[0] // (2 * 34 + 2)
    np.testing.assert_array_equal(grid[2 * factor : 34 * factor : factor, 2 * factor : 34 * factor : factor], images[0])
    code, _, err = run("generate", "hf://ann/toys", "--seeds", "3", "--device", "cpu", "--out", results / "again")
    assert code == 0, err
    assert len(list((results / "again").glob("seed0003_*.png"))) == 1


def test_card_names_what_training_learned_from() -> None:
    run = {"settings": {"train": {"distillation": {"loss": "none"}}}, "data": {"estimator": "leres", "embedder": "a"}}
    for depth, prior, expected in ((True, "uniform", "leres"), (False, "estimated", "leres"), (False, "normal", None)):
        config = {"model": {"depth": depth}, "camera": {"prior": prior}}
        assert teachers(config, run) == (expected, None)
        assert [used.purpose for used in used_weights(config, run)] == ["depth of the training images"] * bool(expected)
    run["settings"] = {"train": {"distillation": {"loss": "kl"}}}
    assert teachers(config, run) == (None, "a")
    assert teachers(config, {"settings": {}, "data": {}}) == (None, None)


def test_a_configuration_may_lack_what_has_a_default(run, results: Path, tmp_path: Path) -> None:
    content = json.loads((results / "model/config.json").read_text())
    del content["model"]["kind"], content["class_names"]
    write(results / "model/config.json", content | {"kimg": "12"})
    code, _, err = run("push", results / "model", "ann/toys", "--to-folder", tmp_path / "card")
    assert code == 0, err
    assert "| kind of model | 3dgp |" in (text := (tmp_path / "card/README.md").read_text())
    assert "| images shown | 12 thousand |" in text


def test_card_describes_the_run(run, results: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        "push", results / "model", "ann/toys", "--license", "cc-by-4.0", "--to-folder", tmp_path / "card"
    )
    assert code == 0 and "nothing was uploaded" in out
    text = (tmp_path / "card/README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "cc-by-4.0" and yaml.safe_load(header)["library_name"] == "threedgp"
    assert 'threedgp.load("hf://ann/toys")' in body
    assert "| data set | animals |" in body and "| training images | 12,288, after selection |" in body
    assert "| batch, loss | 64, logistic |" in body and "| speed | 67.3 images per second |" in body
    settings = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert settings["train"]["batch_size"] == 64 and settings["features.network"] == "inception"
    metric = next(line for line in body.splitlines() if line.startswith("| Fréchet distance"))
    for part in (
        "lower",
        "743",
        "the same model untrained 4383",
        "other half of the real set 122",
        "better than untrained",
    ):
        assert part in metric
    assert "worse than untrained" in next(line for line in body.splitlines() if line.startswith("| Non-flatness"))
    assert "research only, not to be redistributed" in body and "weights-inception" in body
    assert "skorokhodov2023threedgp" in body and "![" in body
    for name in ("samples.png", "depth.png"):
        assert cv2.imread(str(tmp_path / "card" / name)) is not None


def test_metrics_of_another_model_are_left_out(run, results: Path, tmp_path: Path) -> None:
    write(results / "evaluation/model.json", {"sha256": "0" * 64})
    code, out, _ = run("push", results / "model", "ann/toys", "--to-folder", tmp_path / "card")
    text = (tmp_path / "card/README.md").read_text()
    assert code == 0 and "the card has no metrics" in out
    assert "Not measured." in text and "743" not in text and "No license was stated." in text


def test_own_card_of_the_demonstration_model(run, tmp_path: Path) -> None:
    code, out, _ = run("push", "demo", "ann/demo", "--to-folder", tmp_path / "card")
    assert code == 0 and "no metrics" not in out, "the card is not made from the folder beside the model"
    assert (tmp_path / "card/README.md").read_bytes() == (DEMO / "README.md").read_bytes()


@pytest.mark.parametrize("option", ["--title", "--license"])
def test_an_own_card_has_its_own_title_and_license(run, option: str) -> None:
    code, _, err = run("push", "demo", "ann/demo", option, "mit")
    assert code == 2 and err.startswith("error: --title and --license: ") and "README.md is used as the card" in err


def test_token_without_the_right(hub: UploadHub, run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    code, _, err = run("push", "demo", "ann/toys")
    assert code == 2 and err.startswith("error: ann/toys: ") and err.count("\n") == 1
    assert "HF_TOKEN" in err and not hub.repositories


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        ("toys", "error: toys: not the name of a repository of the hub, which is owner/name.\n"),
        ("ann/toys", "error: ann/toys: an upload needs a token with the right to write; create one at "),
    ],
)
def test_uploads_that_cannot_be(run, repo: str, message: str) -> None:
    code, _, err = run("push", "demo", repo)
    assert code == 2 and err.startswith(message) and err.count("\n") == 1


def test_damaged_records_are_named(run, results: Path, tmp_path: Path) -> None:
    (results / "model/run.json").write_text("[]")
    code, _, err = run("push", results / "model", "ann/toys", "--to-folder", tmp_path / "card")
    assert code == 2 and "run.json: not the record of a training run" in err
    (results / "model/run.json").unlink()
    (results / "evaluation/comparisons.json").write_text("{")
    code, _, err = run("push", results / "model", "ann/toys", "--to-folder", tmp_path / "card")
    assert code == 2 and "the evaluation is damaged" in err


def test_a_folder_with_other_files_is_left_alone(run, tmp_path: Path) -> None:
    for folder, clean in ((tmp_path / "project", False), (tmp_path / "clone", True)):
        folder.mkdir()
        (folder / "README.md").write_text("before")
        (folder / (".gitattributes" if clean else "notes.txt")).touch()  # a clone of the hub has hidden files
        code, _, err = run("push", "demo", "ann/demo", "--to-folder", folder)
        assert code == (0 if clean else 2)
        assert clean or f"{folder} holds other files, such as notes.txt; name a new folder" in err
        assert ((folder / "README.md").read_text() == "before") == (not clean)
