"""A stand-in for the Hugging Face hub: the listing of repositories in its real form, and their files."""

from __future__ import annotations

import hashlib
import json

from fetch.misbehaving import Answer, Server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PAGE = 2
"""Files in a page of the listing."""


def publish(server: Server, repo: str, files: dict[str, bytes], *, kind: str = "model", large: int = 100) -> None:
    """Put a repository on `server`; files of at least `large` bytes have a checksum, as those in Git LFS have."""
    api = f"/api/{kind}s/{repo}"
    server.script(api, _json({"id": repo, "sha": COMMIT, "siblings": []}))
    entries = []
    for path, data in files.items():
        entry = {"type": "file", "oid": "0" * 40, "size": len(data), "path": path}
        if len(data) >= large:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        entries.append(entry)
        place = f"/{'datasets/' if kind == 'dataset' else ''}{repo}/resolve/{COMMIT}/{path}"
        server.script(place, Answer(data, etag=f'"{hashlib.md5(data).hexdigest()}"'))
    entries.insert(1, {"type": "directory", "oid": "0" * 40, "size": 0, "path": "data"})
    pages = [entries[i : i + PAGE] for i in range(0, len(entries), PAGE)]
    tree = f"{api}/tree/{COMMIT}"
    for number, page in enumerate(pages):
        following = {"Link": f'<{server.url(f"{tree}/{number + 1}")}>; rel="next"'} if number + 1 < len(pages) else {}
        server.script(tree if number == 0 else f"{tree}/{number}", _json(page, following))


def _json(value: object, headers: dict[str, str] | None = None) -> Answer:
    return Answer(json.dumps(value).encode(), headers={"Content-Type": "application/json", **(headers or {})})
