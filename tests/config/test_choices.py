"""Registries are folders: what is in them, by name."""

from pathlib import Path

import pytest

from threedgp.config import choices
from threedgp.config.choices import names


def test_names_are_the_public_modules_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "ROOT", tmp_path)
    folder = tmp_path / "threedgp" / "kinds"
    folder.mkdir(parents=True)
    for file in ("__init__.py", "_shared.py", "zebra.py", "apple.py", "notes.txt"):
        (folder / file).write_text("raise AssertionError('imported')\n")
    assert names("threedgp.kinds") == ("apple", "zebra")


def test_names_of_the_sources() -> None:
    assert {"folder", "imagenet", "procedural"} <= set(names("threedgp.data.sources"))
