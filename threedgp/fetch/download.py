"""Resumable downloads of single files.

Bytes are gathered in the hidden file `.NAME.part`; `.NAME.part.json` beside it records of which version of which
address they are. A file lands under its name only when it is complete and verified.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from threedgp.fetch.http import ContentChanged, PermanentError, RetryPolicy, TransientError, open_client, open_url
from threedgp.fetch.hub import at_endpoint
from threedgp.fetch.remote import Remote, mismatch
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
    for place in (str(target), *urls):
        path = local_path(place)
        if path is None:
            try:
                _Download(at_endpoint(place), file, target, title).run(policy or RetryPolicy())
                return target
            except PermanentError as reason:
                reasons.append(f"{shown(place)}: {reason}")
        elif path.is_file():
            problem = mismatch(file, path)
            if problem is None:
                return path
            reasons.append(f"{path} {problem}")
        elif path != target:
            reasons.append(f"{path} is missing")
    raise UserError(
        f"{file.name} cannot be downloaded ({'; '.join(reasons)}); run the same command again, "
        f"or get the file some other way and put it at {target}."
    )


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
        """Download, verify and publish the file."""
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
        earlier, headers = self._resumable(), {}
        if earlier:
            if earlier["size"] == self._done:
                return
            headers["Range"] = f"bytes={self._done}-"
            # A weak ETag does not promise equal bytes; servers must not accept it here (RFC 9110, section 13.1.5).
            if earlier["version"] and not earlier["version"].startswith("W/"):
                headers["If-Range"] = earlier["version"]
        try:
            with open_url(client, self._url, headers) as response:
                self._append(response, self._begin(response, earlier))
        except ContentChanged:
            self._discard()
            raise

    def _resumable(self) -> dict[str, Any] | None:
        """The record of the part on disk; None if it cannot be continued."""
        try:
            record = json.loads(self._record.read_bytes())
            # Without ETag, date and checksum, parts of different files could not be told apart.
            recognizable = record["version"] or self._file.checksum
            fits = 0 < self._done and (record["size"] is None or self._done <= record["size"])
            return record if record["url"] == self._url and recognizable and fits else None
        except (OSError, ValueError, KeyError):
            return None

    def _begin(self, response: httpx2.Response, earlier: dict[str, Any] | None) -> int | None:
        """Prepare the part for the body of `response`; returns the size of the file if it is known."""
        headers, start = response.headers, 0
        length = headers.get("Content-Length", "")
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
            if not found or int(found[1]) != self._done:
                raise ContentChanged("the server sent another range than requested", retry_after=0)
            start, length = self._done, found[2]
        size = int(length) if length.isascii() and length.isdigit() else None
        if self._file.size is not None and size not in (None, self._file.size):
            raise PermanentError(f"it has {size} bytes instead of {self._file.size}")
        etag, modified = headers.get("ETag"), headers.get("Last-Modified")
        version = modified or etag if not etag or etag.startswith("W/") else etag
        record = {"url": self._url, "size": size, "version": version}
        if start == 0:
            self._discard()
            atomic.write_json(self._record, record)
        elif not earlier or any(None not in (now := record[key], was := earlier[key]) and now != was for key in record):
            raise ContentChanged("the file has changed since its first part was downloaded", retry_after=0)
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
