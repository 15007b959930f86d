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
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}, with changes" if changed else commit


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return found.stdout.strip()


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
    machine = json.loads((evaluation / "machine.json").read_text(encoding="utf-8"))
    facts = {
        "Data set": f"{about['dataset']} ({prepared.meta['source']}), {prepared.manifest.rows:,} images of "
        f"{size}×{size} pixels",
        "Classes": ", ".join(about["class_names"]),
        "Trained on": f"{shards.manifest.rows:,} images after selection, depth by estimator “{about['estimator']}”, "
        f"classifier features by “{about['embedder']}”",
        "Training": f"{kimg:g} thousand images in {duration(seconds)}, "
        f"{kimg * 1000 / seconds:.3g} images per second{_cost(metrics)}{_published(metrics['kimg'], kimg)}",
        "Evaluation": f"{metrics['samples']:,} generated images, on {machine['device']}, PyTorch {machine['torch']}",
    }
    if commit:
        facts["Code"] = f"commit {commit}"
    return facts


def _published(kimg: float, trained: float) -> str:
    """Names the published model if it is not the last one."""
    model = f"{kimg:g}"  # six digits, as metrics.json has them
    return "" if model == f"{trained:g}" else f"; the model is the best one, after {model} thousand images"


def _cost(metrics: Mapping[str, Any]) -> str:
    days = metrics.get("gpu_days", 0)
    return f", {days:.3g} GPU days" if days else ""
