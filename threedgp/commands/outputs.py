"""The folder that a command writes to. It remembers how each file was made, so that the same command run again goes on
where it was stopped, and a picture can be told from its settings later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from threedgp.runtime.errors import UserError

RECORD = "made.jsonl"
"""A line for each file, in the order they were made; the last line about a file counts."""


class OutputFolder:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: made if missing.

        Raises:
            UserError: it cannot be made or written to.
        """
        self.folder = folder
        self._made: dict[str, Any] = {}
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / RECORD).open("a+", encoding="utf-8", errors="replace") as record:
                record.seek(0)
                text = record.read()
                self._read(text)
                if text and not text.endswith("\n"):  # a crash cut the last line short
                    record.write("\n")

    def _read(self, text: str) -> None:
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._made[entry.pop("file")] = entry
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # its file is made again

    def holds(self, name: str, origin: Mapping[str, Any]) -> bool:
        """Whether the file `name` is there and was made with exactly these settings."""
        return self._made.get(name) == dict(origin) and (self.folder / name).is_file()

    @contextmanager
    def adding(self, name: str, origin: Mapping[str, Any]) -> Iterator[Path]:
        """Yield where to write the file `name`, and remember its settings once it is written.

        Raises:
            UserError: it cannot be written.
        """
        with self._writing():
            yield self.folder / name
            with (self.folder / RECORD).open("a", encoding="utf-8") as record:
                record.write(json.dumps({"file": name, **origin}, ensure_ascii=False) + "\n")
        self._made[name] = dict(origin)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written to ({error.strerror or error}); name another folder with --out, "
                "or run the same command again once that is solved: it goes on from here."
            ) from None
