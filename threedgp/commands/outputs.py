"""The folder that a command writes to. It records how each file was made, so that the same command run again continues
where it was stopped, and the settings of an image can be looked up later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from threedgp.runtime.targets import writing

RECORD = "made.jsonl"
"""One line per file, in the order of writing; the last line about a file counts."""


class OutputFolder:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        """Create `folder` if it is missing. Raises UserError if it cannot be created or written to."""
        self.folder = folder
        self.num_written = self.num_replaced = 0
        self._origins: dict[str, Any] = {}
        with writing(folder, "--out"):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / RECORD).open("a+", encoding="utf-8", errors="replace") as record:
                record.seek(0)
                text = record.read()
                if text and not text.endswith("\n"):  # a crash cut the last line short
                    record.write("\n")
        for line in text.split("\n"):  # splitlines() would split at other characters, which names may contain
            try:
                entry = json.loads(line)
                self._origins[entry.pop("file")] = entry
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # its file is made again

    def holds(self, name: str, origin: Mapping[str, Any]) -> bool:
        """Whether the file `name` exists and was made with exactly these settings."""
        return self._origins.get(name) == dict(origin) and (self.folder / name).is_file()

    @contextmanager
    def adding(self, name: str, origin: Mapping[str, Any]) -> Iterator[Path]:
        """Yield the path to write the file `name` to, and record its settings once it is written. Raises UserError if
        it cannot be written."""
        self.num_written += 1
        self.num_replaced += self._origins.get(name) != dict(origin) and (self.folder / name).exists()
        with writing(self.folder, "--out"):
            yield self.folder / name
            # backslashreplace is JSON's own escape, for file names that are not UTF-8.
            with (self.folder / RECORD).open("a", encoding="utf-8", errors="backslashreplace") as record:
                record.write(json.dumps({"file": name, **origin}, ensure_ascii=False) + "\n")
        self._origins[name] = dict(origin)

    def summary(self, num_files: int) -> str:
        """How many of the `num_files` files of a command were written, were there before, or replaced others."""
        parts = [f"{count_of(self.num_written, 'file')} written"]
        if num_files > self.num_written:
            parts.append(f"{num_files - self.num_written} there already")
        if self.num_replaced:
            parts.append(f"{self.num_replaced} of the written ones replaced others, made with other settings")
        return ", ".join(parts)


def count_of(count: int, noun: str) -> str:
    """A count with its noun, such as ``1 image`` or ``2 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
