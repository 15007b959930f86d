"""What users of DVC expect, with the real `dvc.yaml` and the real DVC around imitated stages."""

from pathlib import Path
from typing import Any

import yaml

from threedgp.commands.preset import apply_preset

ALL = ["download", "prepare", "features", "select", "depth", "embed", "shards", "train", "evaluate", "render", "report"]


def test_only_what_changed_runs_again(imitation: Any) -> None:
    assert imitation.repro() == []
    imitation.set("train", "seed", 1)
    assert imitation.repro() == ["train", "evaluate", "render", "report"]
    imitation.set("depth", "strength", 0.25)
    assert imitation.repro() == ["depth", "shards", "train", "evaluate", "render", "report"]
    imitation.set("machine", "workers", 3)
    assert imitation.repro() == []
    library = imitation.root / "threedgp"
    (library / "visual" / "meshes.py").write_text("# another comment\n")
    assert imitation.repro() == ["render", "report"]
    (library / "visual" / "report.html.j2").write_text("another page\n")
    assert imitation.repro() == ["report"]


def test_training_follows_the_model_that_it_starts_from(imitation: Any) -> None:
    weights = imitation.root / "models" / "mine" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("some weights")
    imitation.set("train", "init_from", "models/mine")
    assert imitation.repro() == ["train", "evaluate", "render", "report"]
    assert imitation.repro() == []
    weights.write_text("other weights")
    assert imitation.repro() == ["train"], "and the imitated stage makes the same model"


def test_outputs_and_cache_share_files_that_no_stage_changes(imitation: Any) -> None:
    """A folder and its copy in the cache take the space once; the next run replaces files and writes into none."""
    model = imitation.root / "results" / "model" / "content"

    def cached() -> dict[int, Path]:
        return {file.stat().st_ino: file for file in (imitation.root / ".dvc/cache").rglob("*") if file.is_file()}

    imitation.set("train", "seed", 1)
    imitation.repro()
    copy, content = cached()[model.stat().st_ino], model.read_text()
    imitation.set("train", "seed", 2)
    imitation.repro()
    assert model.read_text() != content and copy.read_text() == content
    imitation.set("train", "seed", 1)
    assert imitation.repro() == [] and model.read_text() == content


def test_switching_presets_and_back_computes_nothing_again(imitation: Any) -> None:
    params = imitation.root / "params.yaml"
    apply_preset("smoke", params, imitation.root / "presets")
    assert sorted(imitation.repro()) == sorted(ALL)
    apply_preset("toy", params, imitation.root / "presets")
    assert imitation.repro() == []
    assert imitation.git("status", "--porcelain") == ""
    assert (imitation.root / "data" / "smoke" / "shards").is_dir(), "data sets live side by side"


def test_repository_stays_clean(imitation: Any) -> None:
    tracked = imitation.git("ls-files").split()
    assert not [file for file in tracked if file.startswith(("results", "data/", ".scratch")) and "ignore" not in file]
    ignores = {str(file.relative_to(imitation.root)) for file in imitation.root.rglob(".gitignore")}
    assert ignores == {".gitignore", ".dvc/.gitignore", "data/.gitignore"}, "DVC wrote a .gitignore of its own"


def test_experiments_metrics_and_plots(imitation: Any) -> None:
    params = imitation.root / "params.yaml"
    before = params.read_text()
    imitation.dvc("exp", "run", "--temp", "-S", "train.kimg=3", "-n", "short")
    assert params.read_text() == before, "an experiment in a copy leaves the workspace alone"
    table = imitation.dvc("exp", "show", "--only-changed", "--csv").splitlines()
    assert "train.kimg" in table[0] and "swd" in table[0] and "train.seed" not in table[0]
    assert any("short" in row for row in table)

    imitation.dvc("exp", "apply", "short")
    changed = [line for line in params.read_text().splitlines() if line not in before.splitlines()]
    assert changed and all("kimg: 3" in line and "#" in line for line in changed), "comments and layout stay"
    difference = imitation.dvc("metrics", "diff", "--json")
    assert yaml.safe_load(difference)["results/metrics.json"]["swd"]["diff"] != 0
    page = Path(imitation.dvc("plots", "diff", "short").strip().removeprefix("file://").replace("%20", " "))
    assert '"loss": "0.5"' in page.read_text()
