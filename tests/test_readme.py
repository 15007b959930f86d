"""What the README says about the project is true."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from stages.declaration import declarations
from threedgp.config import load_config


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def reachable(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The transitive closure of a graph."""
    while True:
        longer = edges | {(first, last) for first, middle in edges for other, last in edges if middle == other}
        if longer == edges:
            return edges
        edges = longer


def test_graph_has_the_stages_and_the_order_of_the_pipeline(text: str, root: Path) -> None:
    graph = re.search(r"```mermaid\nflowchart LR\n(.*?)```", text, re.DOTALL)[1]
    drawn = {edge for line in graph.splitlines() for edge in pairwise(line.strip().split(" --> "))}
    stages = declarations(load_config(root / "params.yaml")).values()
    edges = {(one.name, other.name) for one in stages for other in stages if set(one.outs) & set(other.deps)}
    assert drawn <= edges, "an arrow that is no dependency"
    assert reachable(drawn) == reachable(edges), "a stage or a dependency is missing"


def test_files_and_folders_exist(text: str, root: Path) -> None:
    paths = re.findall(r"`((?:threedgp|stages|tests|presets|docs|benchmarks)/[\w./]*)`", text)
    paths += re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert len(paths) > 20
    assert not [path for path in paths if not (root / path).exists()]


def test_presets_exist(text: str, root: Path) -> None:
    table = text[text.index("| data set | preset |") : text.index("FID and cost are those")]
    names = [name for row in table.splitlines()[2:] if row for name in re.findall(r"`(\w+)`", row.split("|")[2])]
    assert len(names) > 5
    assert not [name for name in names if not (root / "presets" / f"{name}.yaml").is_file()]
