"""The notebook of docs/ runs from top to bottom, as in a fresh kernel."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

TYPES = {"markdown": set(), "code": {"execution_count", "outputs"}}


@pytest.fixture(scope="module")
def notebook(root: Path) -> dict[str, Any]:
    return json.loads((root / "docs" / "tour.ipynb").read_text(encoding="utf-8"))


def run(cell: dict[str, Any], namespace: dict[str, Any]) -> Any:
    """Run a cell; the value of its last expression, which a notebook shows."""
    tree = ast.parse("".join(cell["source"]))
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell["id"], "exec"), namespace)
    return None if last is None else eval(compile(last, cell["id"], "eval"), namespace)


def test_is_a_notebook_without_outputs(notebook: dict[str, Any]) -> None:
    """The format of version 4.5, https://nbformat.readthedocs.io."""
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) > 10
    for cell in notebook["cells"]:
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | TYPES[cell["cell_type"]]
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_every_cell_runs_and_shows_what_it_says(
    notebook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = [run(cell, namespace) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    images = [np.asarray(value) for value in shown if isinstance(value, Image.Image)]
    assert len(images) >= 6
    for image in images:
        assert image.dtype == np.uint8 and image.std() > 5, "something can be seen"
    assert images[0].shape == (96, 8 * 96, 3)
    assert "giraffe" in capsys.readouterr().out
    assert trimesh.load(tmp_path / "giraffe.ply").is_watertight
    drawn = namespace["mesh"].triangles_center[namespace["faces"]][namespace["order"]]
    drawn = drawn @ np.cross([0, 0, 1], [0, 1, 0])  # right times up: to the viewer
    assert drawn[0] < drawn[-1], "near points hide far ones"
    tiles = images[0].reshape(96, 8, 96, 3).swapaxes(0, 1).astype(float)
    between = np.abs(tiles[:4].mean(axis=0) - tiles[4:].mean(axis=0)).mean()
    assert between > 5, "giraffes and elephants differ"
