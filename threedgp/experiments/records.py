"""What has been measured: DVC experiments of this repository, and samples of other systems in ``results/external``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from threedgp.config.reading import parse_yaml
from threedgp.runtime.atomic import write_bytes
from threedgp.runtime.errors import UserError

EXTERNAL = Path("results/external")
METRICS, CURVES, PARAMS = "results/metrics.json", "results/training/curves.jsonl", "params.yaml"
_REF = re.compile(r"(?P<commit>[0-9a-f]{40}) refs/exps/(?P<start>[0-9a-f]{2})/(?P<rest>[0-9a-f]{38})/(?P<name>\S+)")


@dataclass(frozen=True)
class Record:
    """One measurement."""

    metrics: Mapping[str, float]
    """Numbers by their name in ``results/metrics.json``."""
    dataset: str
    """Name and resolution of the real set, such as ``imagenet 256``."""
    code: str | None = None
    """The commit of the code, abbreviated; None if it is not known."""
    curves: tuple[Mapping[str, float], ...] = ()
    """Distances that training measured, each record with `kimg`."""


@dataclass(frozen=True)
class Finished:
    """A finished DVC experiment."""

    revision: str
    """The commit that holds its settings and results."""
    baseline: str
    """The commit of the code that it ran with."""


def finished_experiments() -> dict[str, Finished]:
    """DVC experiments of the repository in the working directory by name, on any commit; the newest one of each name.

    Raises:
        UserError: there is no repository.
    """
    command = ["git", "for-each-ref", "--sort=creatordate", "--format=%(objectname) %(refname)", "refs/exps"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        raise UserError("this folder is not in a git repository; run from the root of the project.") from None
    found = filter(None, map(_REF.fullmatch, lines))
    return {one["name"]: Finished(one["commit"], one["start"] + one["rest"]) for one in found}


def read_experiment(name: str, experiment: Finished) -> Record | None:
    """The measurements of an experiment; None if it has not been evaluated, or its results are not in DVC's cache.

    Raises:
        UserError: its results are damaged.
    """
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(rev=experiment.revision)
    try:
        metrics, params = files.read_text(METRICS), files.read_text(PARAMS)
        curves = files.read_text(CURVES) if files.exists(CURVES) else ""
    except FileNotFoundError:
        return None
    try:
        dataset = parse_yaml(params.encode(), PARAMS)["dataset"]
        return Record(
            numbers(json.loads(metrics)),
            f"{dataset['name']} {dataset['resolution']}",
            experiment.baseline[:7],
            tuple(filter(None, (_distances(json.loads(line)) for line in curves.splitlines()))),
        )
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"experiment '{name}': its results are damaged; remove it with dvc exp remove {name}."
        ) from None


def read_external(key: str) -> Record | None:
    """The measurements in ``results/external/<key>.json``; None if there is no such file.

    Raises:
        UserError: the file was not written by ``python -m stages.evaluate --images``.
    """
    file = EXTERNAL / f"{key}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        about = content["about"]
        code = about["commit"]
        if code is not None and not code.isprintable():
            raise ValueError
        return Record(numbers(content), f"{about['dataset']} {about['resolution']}", code)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{file}: is no result of `python -m stages.evaluate --images`; remove it, or score the samples again."
        ) from None


def write_records(file: Path, records: Mapping[str, Record]) -> None:
    """Write records by the names of their experiments, one JSON object a line, for `read_records`."""
    lines = [json.dumps({"experiment": name} | asdict(record)) + "\n" for name, record in records.items()]
    write_bytes(file, "".join(lines).encode())


def read_records(file: Path) -> dict[str, Record]:
    """The records in `file` by the names of their experiments.

    Raises:
        UserError: there is no such file, or it was not written by `write_records`.
    """
    records = {}
    try:
        for text in file.read_text(encoding="utf-8").splitlines():
            content = json.loads(text)
            metrics, curves = numbers(content["metrics"]), tuple(map(numbers, content["curves"]))
            name, dataset, code = (content[key] for key in ("experiment", "dataset", "code"))
            texts_are_right = all(isinstance(one, str) and one.isprintable() for one in (name, dataset, code or ""))
            if not texts_are_right or any("kimg" not in line for line in curves):
                raise ValueError
            records[name] = Record(metrics, dataset, code, curves)
        return records
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file; write it with threedgp experiments table --save.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{file}: holds no records; write them with threedgp experiments table --save.") from None


def _distances(content: Any) -> dict[str, float]:
    """`kimg` and the distances of a record of the training log; empty if it has none."""
    kept = {name: value for name, value in numbers(content).items() if name.startswith("distance/")}
    return {"kimg": content["kimg"], **kept} if kept else {}


def numbers(content: Any) -> dict[str, float]:
    """The finite numbers of a mapping. Raises AttributeError if it is none."""
    return {
        name: float(value)
        for name, value in content.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    }
