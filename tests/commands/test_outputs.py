"""The folder of results knows how its files were made, also after a crash."""

from __future__ import annotations

import pytest

from threedgp.commands.outputs import RECORD, OutputFolder
from threedgp.runtime.errors import UserError

ORIGIN = {"seed": 1, "truncation": 0.7, "cameras": [[0.1, 0.2]]}


def add(folder: OutputFolder, name: str, origin: dict) -> None:
    with folder.adding(name, origin) as path:
        path.write_text("content")


def test_remembers(tmp_path):
    first = OutputFolder(tmp_path / "out")
    assert not first.holds("a.png", ORIGIN)
    add(first, "a.png", ORIGIN)
    for folder in (first, OutputFolder(tmp_path / "out")):
        assert folder.holds("a.png", ORIGIN)
        assert not folder.holds("a.png", ORIGIN | {"truncation": 0.5})
        assert not folder.holds("b.png", ORIGIN)
    add(first, "a.png", ORIGIN | {"truncation": 0.5})
    assert not OutputFolder(tmp_path / "out").holds("a.png", ORIGIN)  # the last line about a file counts
    (tmp_path / "out" / "a.png").unlink()
    assert not first.holds("a.png", ORIGIN | {"truncation": 0.5})


def test_what_failed_is_not_remembered(tmp_path):
    folder = OutputFolder(tmp_path)
    with pytest.raises(RuntimeError), folder.adding("a.png", ORIGIN) as path:
        path.write_text("half")
        raise RuntimeError
    assert not OutputFolder(tmp_path).holds("a.png", ORIGIN)


def test_a_line_cut_short_is_passed_over(tmp_path):
    add(OutputFolder(tmp_path), "a.png", ORIGIN)
    with (tmp_path / RECORD).open("a") as record:
        record.write('[1]\n"x"\n{"seed": 1}\n{"file": []}\n{"file": "b.p')
    folder = OutputFolder(tmp_path)
    assert folder.holds("a.png", ORIGIN)
    add(folder, "c.png", ORIGIN)
    assert OutputFolder(tmp_path).holds("c.png", ORIGIN)


def test_a_record_that_is_no_text_is_passed_over(tmp_path):
    add(OutputFolder(tmp_path), "a.png", ORIGIN)
    with (tmp_path / RECORD).open("ab") as record:
        record.write(b"\xff\xfe{\x00\n")
    folder = OutputFolder(tmp_path)
    assert folder.holds("a.png", ORIGIN)
    add(folder, "b.png", ORIGIN)
    assert OutputFolder(tmp_path).holds("b.png", ORIGIN)


@pytest.mark.parametrize("name", ["a b\u00fc.png", "line\u2028separator.png", "not UTF-8 \udcff.png"])
def test_names_of_any_characters(tmp_path, name):
    add(OutputFolder(tmp_path), name, ORIGIN)
    assert OutputFolder(tmp_path).holds(name, ORIGIN)


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"--out: .* cannot be written \(.*\)"):
            OutputFolder(place)


def test_full_disk_is_told(tmp_path):
    folder = OutputFolder(tmp_path)
    with pytest.raises(UserError, match=r"No space left on device"):
        with folder.adding("a.png", ORIGIN):
            raise OSError(28, "No space left on device")
