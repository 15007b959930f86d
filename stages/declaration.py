"""What ``dvc.yaml`` declares for a stage: what it reads, which settings it sees, and what it writes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from threedgp.config import Config
from threedgp.runtime.errors import UserError

CODE = Path(__file__).resolve().parent.parent
"""Root of the code that runs, for a working directory without ``dvc.yaml`` of its own."""

CHANGEABLE = frozenset(
    {
        *(f"train.{name}" for name in ("save_kimg", "keep_states", "archive_kimg", "max_rollbacks")),
        *(f"{stage}.batch_size" for stage in ("features", "depth", "embed", "evaluate")),
    }
)
"""Settings that can change while a run is stopped: what training saves and when it gives up, and batch sizes that
determine memory and, up to rounding, no result."""

_TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Declaration:
    """One stage of ``dvc.yaml``, with templates filled in."""

    name: str
    deps: tuple[Path, ...]
    params: tuple[str, ...]
    """Dotted keys of ``params.yaml``: sections or single values."""
    outs: tuple[Path, ...]
    repro: str = ""
    """The stage for `dvc repro` that makes missing dependencies; empty = the stage itself."""

    def values(self, config: Config) -> dict[str, Any]:
        """The settings that the stage depends on, by dotted key."""
        everything = config.model_dump(mode="json")
        return {key: _look_up(everything, key) for key in self.params}

    def inputs(self, config: Config) -> dict[str, dict[str, Any]]:
        """Settings, except those that are `CHANGEABLE`, and hashes of the code and data that the stage declares.

        Raises:
            UserError: a dependency is missing.
        """
        params = {
            key: {name: inner for name, inner in value.items() if f"{key}.{name}" not in CHANGEABLE}
            if isinstance(value, dict)
            else value
            for key, value in self.values(config).items()
        }
        return {"params": params, "deps": {str(dep): _digest(self, dep) for dep in self.deps}}

    def fingerprint(self, inputs: dict[str, dict[str, Any]]) -> str:
        """Hash of the stage and its `inputs`."""
        content = {"stage": self.name, **inputs}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def difference(before: Any, after: Any, path: str = "") -> str:
    """Dotted key of the first value that differs; empty if none does."""
    if before == after:
        return ""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return path
    key = next(key for key in before | after if before.get(key) != after.get(key))
    return difference(before.get(key), after.get(key), f"{path}.{key}".lstrip("."))


class DeclaredSettings:
    """A section of the configuration that shows only what ``dvc.yaml`` declares for the stage.

    A setting that a stage reads but does not declare would change the result without a re-run, so reading one is an
    error of the stage. Section ``machine`` changes no result and is open to all, as are sections declared whole.
    """

    def __init__(self, section: Any, declaration: Declaration, path: str = "") -> None:
        self._section, self._declaration, self._path = section, declaration, path

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        value = getattr(self._section, key)
        dotted = f"{self._path}.{key}".lstrip(".")
        declared = (*self._declaration.params, "machine", "dataset.name")
        if dotted in declared:
            return value
        if any(name.startswith(dotted + ".") for name in declared):
            return DeclaredSettings(value, self._declaration, dotted)
        raise AttributeError(f"stage '{self._declaration.name}' reads {dotted}, which its params in dvc.yaml lack")


def declarations(config: Config) -> dict[str, Declaration]:
    """All stages of the pipeline in the working directory, or else of the pipeline that this code belongs to."""
    values = config.model_dump(mode="json")
    file = Path("dvc.yaml") if Path("dvc.yaml").is_file() else CODE / "dvc.yaml"
    stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    return {
        name: Declaration(
            name=name,
            deps=tuple(_paths(stage.get("deps", []), values)),
            params=tuple(stage.get("params", [])),
            outs=tuple(_paths(stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", []), values)),
        )
        for name, stage in stages.items()
    }


def _look_up(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _paths(entries: list[str | dict[str, Any]], values: dict[str, Any]) -> Iterator[Path]:
    for entry in entries:
        path = entry if isinstance(entry, str) else next(iter(entry))
        yield Path(_TEMPLATE.sub(lambda match: str(_look_up(values, match[1])), path))


def _digest(stage: Declaration, dep: Path) -> str:
    """Hash of a dependency; that of a folder with a manifest is the manifest's, which holds the hashes of its files."""
    place = dep if dep.exists() else CODE / dep
    manifest = place / "manifest.json"
    if manifest.is_file():
        files = [manifest]
    elif place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    elif place.is_file():
        files = [place]
    else:
        advice = f"run `dvc repro {stage.repro or stage.name}`"
        raise UserError(f"{dep}: stage '{stage.name}' reads this and it is missing; {advice}.")
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(place.parent)} {content}\n".encode())
    return total.hexdigest()
