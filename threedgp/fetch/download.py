"""Resumable downloads of single files.

Bytes are gathered in the hidden file `.NAME.part`; `.NAME.part.json` beside it records of which version of which
address they are. A file lands under its name only when it is complete and verified.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import httpx2

from threedgp.fetch.http import ContentChanged, open_client, open_url
from threedgp.fetch.hub import at_endpoint
from threedgp.fetch.remote import Remote, mismatch
from threedgp.fetch.retry import PermanentError, RetryPolicy, TransientError
from threedgp.runtime import atomic
from threedgp.runtime.addresses import local_path, mirror_problem, scheme, shown
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

MAX_CHECKSUM_FAILURES = 2
MEGABYTE = 10**6


def download(
    file: Remote, folder: Path, *, title: str, mirror: str | None = None, policy: RetryPolicy | None = None
) -> Path:
    """Path of `file`: in the mirror if that is a folder that has it, else downloaded into `folder`.

    A file that is already there is verified and kept. A stopped download is resumed by the next call.

    Args:
        title: label of the progress bar.
        mirror: folder or URL below which the file is looked for by name before its own address is tried.

    Raises:
        UserError: the file cannot be downloaded, has a wrong size or checksum, or does not fit on the disk; or
            `mirror` cannot be used.
    """
    if problem := mirror_problem(mirror):
        raise UserError(f"{problem}.")
    target, reasons, urls = folder / file.name, [], [file.url]
    if mirror is not None:
        urls.insert(0, f"{mirror.rstrip('/')}/{quote(file.name) if scheme(mirror) else file.name}")
    if target.is_dir():
        raise UserError(f"{target}: a folder is in the place of a file; move it away.")
    if target.is_file():
        problem = mismatch(file, target)
        if problem is None:
            return target
        reasons.append(f"{target} {problem}")
    for url in urls:
        path = local_path(url)
        try:
            if path is None:
                _Download(at_endpoint(url), file, target, title).run(policy or RetryPolicy())
                return target
            problem = mismatch(file, path) if path.is_file() else "is missing"
            if problem is None:
                return path
            reasons.append(f"{path} {problem}")
        except PermanentError as reason:
            reasons.append(f"{shown(url)}: {reason}")
    raise UserError(
        f"{file.name} cannot be downloaded ({'; '.join(reasons)}); run the same command again, "
        f"or get the file some other way and put it at {target}."
    )


@dataclass(frozen=True)
class _Version:
    """What tells one content of an address from another."""

    url: str
    size: int | None
    etag: str | None
    modified: str | None

    def continues(self, earlier: _Version) -> bool:
        """Whether bytes of this version may follow bytes of `earlier`."""
        pairs = ((self.size, earlier.size), (self.etag, earlier.etag), (self.modified, earlier.modified))
        return all(None in pair or pair[0] == pair[1] for pair in pairs)


class _Download:
    """The download of one file from one web address."""

    def __init__(self, url: str, file: Remote, target: Path, title: str) -> None:
        self._url, self._file, self._target, self._title = url, file, target, title
        self._part = target.with_name(f".{target.name}.part")
        self._record = target.with_name(f".{target.name}.part.json")
        target.parent.mkdir(parents=True, exist_ok=True)

    @property
    def _done(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def run(self, policy: RetryPolicy) -> None:
        """Download, verify and publish the file.

        Raises:
            PermanentError: it cannot be downloaded, or is not the right file.
        """
        problem = None
        with open_client(policy) as client:
            for _ in range(MAX_CHECKSUM_FAILURES):
                policy.run(lambda: self._receive(client), lambda: self._done)
                problem = mismatch(self._file, self._part)
                if problem is None:
                    atomic.publish(self._part, self._target)
                    self._record.unlink(missing_ok=True)
                    return
                self._discard()
        raise PermanentError(f"the file {problem}")

    def _receive(self, client: httpx2.Client) -> None:
        """Receive what the part lacks, in one request."""
        earlier = self._resumable()
        if earlier and earlier.size == self._done:
            return
        headers = {}
        if earlier:
            headers["Range"] = f"bytes={self._done}-"
            # A weak ETag does not promise equal bytes; servers must not accept it here (RFC 9110, section 13.1.5).
            strong = earlier.etag if earlier.etag and not earlier.etag.startswith("W/") else None
            if condition := strong or earlier.modified:
                headers["If-Range"] = condition
        try:
            with open_url(client, self._url, headers) as response:
                self._append(response, self._begin(response, earlier))
        except ContentChanged:
            self._discard()
            raise

    def _resumable(self) -> _Version | None:
        """The version of the part on disk; None if it cannot be continued."""
        try:
            version = _Version(**json.loads(self._record.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        # Without ETag, date and checksum, parts of different files could not be told apart.
        recognizable = version.etag or version.modified or self._file.checksum
        fits = 0 < self._done and (version.size is None or self._done <= version.size)
        return version if version.url == self._url and recognizable and fits else None

    def _begin(self, response: httpx2.Response, earlier: _Version | None) -> int | None:
        """Prepare the part for the body of `response`; returns the size of the file if it is known."""
        start, length = 0, response.headers.get("Content-Length", "")
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if not found or int(found[1]) != self._done:
                raise ContentChanged("the server sent another range than requested")
            start, length = self._done, found[2]
        size = int(length) if length.isascii() and length.isdigit() else None
        version = _Version(self._url, size, response.headers.get("ETag"), response.headers.get("Last-Modified"))
        if self._file.size is not None and size not in (None, self._file.size):
            raise PermanentError(f"it has {size} bytes instead of {self._file.size}")
        if start == 0:
            self._discard()
            atomic.write_json(self._record, asdict(version))
        elif earlier and not version.continues(earlier):
            raise ContentChanged("the file has changed since its first part was downloaded")
        if size is not None:
            atomic.require_free(self._target.parent, size - start)
        return size if self._file.size is None else self._file.size

    def _append(self, response: httpx2.Response, size: int | None) -> None:
        done = self._done
        total = (size or 0) // MEGABYTE
        with self._part.open("ab") as stream, progress(self._title, total, "MB", done // MEGABYTE) as bar:
            # Raw bytes: if the server calls a .tar.gz a compressed .tar, the .tar.gz is still the file.
            for chunk in response.iter_raw():
                bar.advance((done + len(chunk)) // MEGABYTE - done // MEGABYTE)
                done += len(chunk)
                if size is not None and done > size:
                    self._discard()
                    raise PermanentError(f"it has more than {size} bytes")
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        if size is not None and done < size:
            raise TransientError(f"received only {done} of {size} bytes")

    def _discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
