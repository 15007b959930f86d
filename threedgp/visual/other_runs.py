"""Results of other revisions, for comparison: of a commit, a branch or an experiment of DVC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from threedgp.config import parse_config
from threedgp.runtime.errors import UserError
from threedgp.visual.curves import read_records

SAMPLES = "results/renders/samples.png"


@dataclass(frozen=True)
class OtherRun:
    """The results of a revision."""

    parameters: Mapping[str, Any]
    """All its settings, by section."""
    metrics: Mapping[str, float]
    records: list[dict[str, float]]
    """Records of the training log, each with `kimg`."""
    samples: bytes
    """The grid of images, a PNG file."""


def read_run(revision: str) -> OtherRun:
    """The results of a revision, from DVC's cache. Raises UserError if there is no such revision, or its results are
    not in the cache."""
    from dvc.api import DVCFileSystem

    try:
        files = DVCFileSystem(rev=revision)
        return OtherRun(
            parameters=_with_defaults(yaml.safe_load(files.read_bytes("params.yaml"))),
            metrics=json.loads(files.read_bytes("results/metrics.json")),
            records=read_records(files.read_bytes("results/training/curves.jsonl").decode()),
            samples=files.read_bytes(SAMPLES),
        )
    except Exception as error:  # DVC raises errors of several packages
        raise UserError(
            f"report.compare: cannot read the results of revision '{revision}' ({error}); name a commit, branch or "
            "experiment whose results are in DVC's cache (`dvc exp list`, `dvc fetch`)."
        ) from None


def _with_defaults(values: Any) -> dict[str, Any]:
    """The settings as this version reads them; without change if they are those of another version."""
    try:
        return parse_config(values).model_dump(mode="json")
    except UserError:
        return values


def is_other_seed(parameters: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs differ in `train.seed`, and in no other setting of a result."""

    def without_seed(values: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in values.items() if key not in ("report", "machine")}
        return kept | {"train": {**values.get("train", {}), "seed": None}}

    return parameters != other and without_seed(parameters) == without_seed(other)
