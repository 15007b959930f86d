"""The targets of the Makefile that no other test uses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from threedgp.data import schemas
from threedgp.data.shards import ShardWriter


def test_clean_removes_outputs_and_no_images(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "Makefile", tmp_path)
    for name in ("data/toy/raw", "data/my cows/raw"):
        writer = ShardWriter(tmp_path / name, schemas.REJECTS, "raw", {})
        writer.write(0, schemas.REJECTS.empty_table())
        writer.finish()
    for name in ("data/.gitignore", "data/my cows/1.jpg", "data/photos/depth/1.png", "results/a.png", ".scratch/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for _ in range(2):  # the second time there is nothing to remove
        subprocess.run(["make", "clean"], cwd=tmp_path, check=True, timeout=300)
        left = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
        assert left == {"Makefile", "data/.gitignore", "data/my cows/1.jpg", "data/photos/depth/1.png"}
        assert not (tmp_path / "data/toy").exists()
