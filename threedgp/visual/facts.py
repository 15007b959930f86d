"""Description of a run: data, training, evaluation, commit."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from threedgp.data.shards import ShardFolder
from threedgp.runtime.progress import duration
from threedgp.visual.report import read_curves

CODE = ("stages", "threedgp", "dvc.yaml")


def git_commit() -> str | None:
    """The commit of the working directory, marked if its code has changes; None outside of a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit}, with changes" if git("status", "--porcelain", "--", *CODE) else commit
    except (OSError, subprocess.SubprocessError):
        return None


def reject_counts(folder: Path) -> Counter[str]:
    """Number of images that a stage left out, by reason, from ``rejects.parquet`` in its folder."""
    return Counter(pq.read_table(folder / "rejects.parquet", columns=["reason"])["reason"].to_pylist())


def run_facts(
    prepared: ShardFolder,
    shards: ShardFolder,
    metrics: Mapping[str, Any],
    training: Path,
    evaluation: Path,
    commit: str | None,
) -> dict[str, str]:
    """The description at the top of the report, by title.

    Args:
        prepared: shards of all images.
        shards: training shards.
        metrics: content of metrics.json.
        training, evaluation: output folders of these stages.
        commit: of the code; None = unknown.
    """
    about, size = shards.meta, shards.meta["resolution"]
    records = read_curves(training)
    seconds, kimg = 0.0, 0.0
    for record in records:
        seconds += (record["kimg"] - kimg) * 1000 / record["images_per_second"]
        kimg = record["kimg"]
    trained = f"{kimg:g} thousand images in {duration(seconds)}, {kimg * 1000 / seconds:.3g} images per second"
    if metrics.get("gpu_days"):
        trained += f", {metrics['gpu_days']:.3g} GPU days"
    model = f"{metrics['kimg']:g}"  # six digits, as metrics.json has them
    if model != f"{kimg:g}":
        trained += f"; the model is the best one, after {model} thousand images"
    machine = json.loads((evaluation / "machine.json").read_text(encoding="utf-8"))
    facts = {
        "Data set": f"{about['dataset']} ({prepared.meta['source']}), {prepared.manifest.rows:,} images of "
        f"{size}×{size} pixels",
        "Classes": ", ".join(about["class_names"]),
        "Trained on": f"{shards.manifest.rows:,} images after selection, depth by estimator “{about['estimator']}”, "
        f"classifier features by “{about['embedder']}”",
        "Training": trained,
        "Evaluation": f"{metrics['samples']:,} generated images, on {machine['device']}, PyTorch {machine['torch']}",
    }
    if commit:
        facts["Code"] = f"commit {commit}"
    return facts
