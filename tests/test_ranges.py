"""The ranges of dependencies in pyproject.toml begin at versions that were tried."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version


def pinned(file: Path) -> dict[str, Version]:
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return {name: Version(version) for name, _, version in (line.partition("==") for line in lines if line)}


def test_each_range_holds_the_newest_and_begins_at_the_oldest_version_that_was_tried(root: Path) -> None:
    newest, oldest = pinned(root / "constraints.txt"), pinned(root / "constraints-oldest.txt")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    ranges = {one.name: one.specifier for one in map(Requirement, requirements) if one.name != "threedgp"}
    assert len(ranges) > 20
    for name, specifier in ranges.items():
        assert newest[name] in specifier, name
        (floor,) = (Version(part.version) for part in specifier if part.operator in (">=", "=="))
        tried = oldest.get(name, newest[name])
        assert tried in specifier and floor.release == tried.release[: len(floor.release)], f"{name}: {floor}, {tried}"


@pytest.mark.parametrize("name", ["torch", "triton"])
def test_older_versions_of_pytorch_and_triton_are_tried(name: str, root: Path) -> None:
    assert pinned(root / "constraints-oldest.txt")[name] < pinned(root / "constraints.txt")[name]
