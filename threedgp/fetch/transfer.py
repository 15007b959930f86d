"""One file on its way: the part on disk, its checksum, its landing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Event
from urllib.parse import quote

from threedgp.fetch.checksums import new_hash, problem_of, read_into, written
from threedgp.fetch.content import Content, LocalContent, Version
from threedgp.fetch.patience import Changed, Patience, Refused, Stopped, Trouble
from threedgp.fetch.remote import Remote, local_path, scheme, shown
from threedgp.fetch.web import Web
from threedgp.runtime import atomic
from threedgp.runtime.errors import UserError

TRIES_OF_CHECKSUM = 2
LOOK = 64 * 2**20
"""Bytes between two looks at the disk while a server does not say how many will come."""
RESERVE = 256 * 2**20
"""Bytes that such a file must leave free."""


class Transfer:
    """Brings one file into `folder`.

    Bytes gather in `.NAME.part`; `.NAME.part.json` says which version of which address they are from.

    Args:
        make_room: called when it becomes known how large the file is; raises UserError when it does not fit.
    """

    def __init__(
        self,
        file: Remote,
        folder: Path,
        mirror: str | None,
        patience: Patience,
        stop: Event,
        make_room: Callable[[], None],
    ) -> None:
        self.file, self.target = file, folder / file.name
        self._patience, self._stop, self._make_room = patience, stop, make_room
        self._part = self.target.with_name(f".{self.target.name}.part")
        self._state = self.target.with_name(f".{self.target.name}.part.json")
        self._places = [file.url] if mirror is None else [_below(mirror, file.name), file.url]
        self.size = file.size
        """Bytes of the whole file, as soon as they are known."""
        self.done = _size(self.target) or _size(self._part) or 0
        """Bytes that are here."""
        self.landed = False
        self._writes = all(local_path(place) is None for place in self._places)
        self._hash, self._hashed = new_hash(file.checksum), 0

    @property
    def left(self) -> int:
        """Bytes that are still to be written, as far as is known; a link needs none."""
        return max(0, (self.size or 0) - self.done) if self._writes else 0

    def ask_size(self, web: Web) -> None:
        """Learn the size beforehand, if it is not stated: for the disk, and for the time that is left."""
        if self.size is None and self.target.exists():
            self.size = self.done
        for place in self._places:
            if self.size is None:
                path = local_path(place)
                self.size = web.size(place) if path is None else _size(path)

    def run(self, web: Web) -> Path:
        """Bring the file, unless it is there.

        Raises:
            UserError: it cannot be had; says what was tried and what to do.
            Stopped: the rest was not wanted; the part stays.
        """
        if self.target.is_dir():
            raise UserError(f"{self.target}: a folder is where a file should land; move it away.")
        problem = problem_of(self.file, self.target, self._stop) if self.target.exists() else "absent"
        if problem is None:
            self._arrived()
            return self.target
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.done = _size(self._part) or 0
        reasons = [] if problem == "absent" else [f"{self.target} {problem}"]
        for place in self._places:
            try:
                self._bring(place, web)
                return self.target
            except Refused as reason:
                reasons.append(f"{shown(place)}: {reason}")
        raise UserError(
            f"{self.file.name} cannot be fetched ({'; '.join(reasons)}); run the same command again, "
            f"or get the file some other way and put it at {self.target}."
        )

    def _bring(self, place: str, web: Web) -> None:
        if (path := local_path(place)) is not None and self._link(path):
            return
        for _ in range(TRIES_OF_CHECKSUM):
            self._patience.persist(lambda: self._continue(place, web), place, self._stop, lambda: self.done)
            found = self.file.checksum and written(self._hash)
            if found == self.file.checksum:
                self._land(self._part)
                return
            self._drop()
        raise Refused(f"its checksum is {found} instead of {self.file.checksum}, so it is another or a damaged file")

    def _link(self, path: Path) -> bool:
        """Take a file of this machine without copying it, where the file system can."""
        if not path.is_file():
            raise Refused("there is no such file", absent=True)
        link = self.target.with_name(f".{self.target.name}.link")
        link.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), link)
        except OSError:
            return False
        try:
            problem = problem_of(self.file, link, self._stop)
            if problem:
                raise Refused(f"the file {problem}")
            self._land(link)
        finally:
            link.unlink(missing_ok=True)
        return True

    def _land(self, whole: Path) -> None:
        atomic.publish(whole, self.target)
        self._arrived()

    def _arrived(self) -> None:
        self._drop()
        self.size = self.done = self.target.stat().st_size
        self.landed = True

    def _continue(self, place: str, web: Web) -> None:
        """Fetch what the part lacks."""
        earlier = self._earlier(place)
        if earlier and earlier.total is not None and self.done == earlier.total:
            self._hash_part()
            return
        start = self.done if earlier else 0
        path = local_path(place)
        try:
            content = LocalContent(path, start) if path is not None else web.open(place, start, earlier)
            try:
                if self._stop.is_set():  # this thread may have been given up while it waited
                    raise Stopped
                if content.start and earlier and not content.version.continues(earlier):
                    raise Changed("the file has changed meanwhile")
                self._receive(content, place)
            finally:
                content.close()
        except Changed:
            self._drop()
            raise

    def _receive(self, content: Content, place: str) -> None:
        total = content.version.total
        if self.file.size is not None and total not in (None, self.file.size):
            raise Refused(f"it has {total} bytes instead of {self.file.size}, so it is another file")
        if content.start == 0:
            self._drop()
            atomic.write_json(self._state, {"url": place, **asdict(content.version)})
        else:
            self._hash_part()
        self.size = self.file.size if total is None else total
        self._writes = True
        self._make_room()
        with self._part.open("ab") as stream:
            while data := content.read():
                if self._stop.is_set():
                    raise Stopped
                if self.size is not None and self.done + len(data) > self.size:
                    self._drop()
                    raise Refused(f"it has more than {self.size} bytes, so it is another file")
                stream.write(data)
                if self.file.checksum:
                    self._hash.update(data)
                if self.size is None and self.done // LOOK != (self.done + len(data)) // LOOK:
                    stream.flush()
                    atomic.require_free(self.target.parent, RESERVE)
                self.done += len(data)
                self._hashed = self.done
            stream.flush()
            os.fsync(stream.fileno())
        if self._stop.is_set():
            raise Stopped
        if self.size is not None and self.done < self.size:
            raise Trouble(f"only {self.done} of {self.size} bytes came")

    def _earlier(self, place: str) -> Version | None:
        """The version of `place` that the part is from; None if it cannot be continued from there."""
        try:
            state = json.loads(self._state.read_bytes())
            version = Version(state["total"], state["etag"], state["modified"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        fits = version.total is None or 0 < self.done <= version.total
        sure = version.recognisable or self.file.checksum is not None
        return version if state["url"] == place and fits and sure and self.done else None

    def _hash_part(self) -> None:
        """Bring the running checksum up to the end of the part."""
        if self.file.checksum and self._hashed != self.done:
            self._hash, self._hashed = new_hash(self.file.checksum), self.done
            read_into(self._hash, self._part, self._stop)

    def _drop(self) -> None:
        self._part.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)
        self.done = self._hashed = 0
        self._hash = new_hash(self.file.checksum)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _below(mirror: str, name: str) -> str:
    """Where the mirror has a file."""
    return f"{mirror.rstrip('/')}/{quote(name) if scheme(mirror) else name}"
