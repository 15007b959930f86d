"""Finished results, kept in scratch until ``dvc.lock`` records them.

DVC may die while a stage runs, or before it has recorded the outputs; its next run removes them and starts the stage
again. The stage then publishes the kept result at once. The files are hard links to the outputs and take no space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from threedgp.runtime import atomic

RECORD = "finished.json"
DVC_LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Finished:
    """A finished result of a stage; stored as `RECORD` in its scratch folder."""

    stage: str
    outs: dict[str, str]
    """Where each output lies in the scratch folder."""
    files: str
    """Digest of names, sizes and modification times: an output that was edited in place has changed the result, too."""
    before: str
    """The entry of the stage in ``dvc.lock`` when it began."""

    def publish(self, scratch: Path) -> None:
        """Make the outputs links to the result, after everything else in `scratch` is removed."""
        kept = {Path(name).parts[0] for name in (RECORD, *self.outs.values())}
        for place in scratch.iterdir():
            if place.name not in kept:
                atomic.remove(place)
        for target, name in self.outs.items():
            atomic.publish(scratch / name, Path(target), link=True)

    def is_recorded(self, scratch: Path) -> bool:
        """Whether DVC has recorded the result, so that it can be removed from `scratch`."""
        entry = lock_entry(self.stage)
        if entry in ("", self.before):
            return False
        known = {out["path"]: out.get("md5") for out in json.loads(entry).get("outs", [])}
        try:
            return all(known.get(target) == dvc_md5(scratch / name) for target, name in self.outs.items())
        except FileNotFoundError:  # another process is removing it
            return True


def finish(scratch: Path, stage: str, outs: Mapping[Path, Path], before: str) -> Finished:
    """Record that the result in `scratch` is complete: the files or folders ``outs.values()``, by output."""
    names = {str(target): built.relative_to(scratch).as_posix() for target, built in outs.items()}
    result = Finished(stage, names, _digest(scratch, names), before)
    atomic.write_json(scratch / RECORD, asdict(result))
    return result


def find(scratch: Path) -> Finished | None:
    """The finished result in `scratch`; None if there is none, or if it has changed since."""
    try:
        result = Finished(**json.loads((scratch / RECORD).read_text(encoding="utf-8")))
        return result if _digest(scratch, result.outs) == result.files else None
    except (OSError, ValueError, TypeError):
        return None


def lock_entry(stage: str) -> str:
    """The entry of a stage in ``dvc.lock`` as JSON; empty if there is none, or if the file is damaged."""
    try:
        entry = yaml.load(DVC_LOCK.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"][stage]
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return ""
    return json.dumps(entry, sort_keys=True, default=str)


def dvc_md5(place: Path) -> str:
    """The hash by which ``dvc.lock`` knows a file or folder."""
    if place.is_file():
        with place.open("rb") as stream:
            return hashlib.file_digest(stream, "md5").hexdigest()
    files = ((file.relative_to(place).as_posix(), file) for file in place.rglob("*") if file.is_file())
    listing = [{"md5": dvc_md5(file), "relpath": name} for name, file in sorted(files)]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


def _digest(scratch: Path, outs: Mapping[str, str]) -> str:
    places = [scratch / name for name in outs.values()]
    files = sorted(file for place in places for file in (place, *place.rglob("*")) if file.is_file())
    about = [(str(file.relative_to(scratch)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    if any(not place.exists() for place in places):
        raise FileNotFoundError
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
