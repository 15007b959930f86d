"""A stand-in for the Hugging Face hub: the listing of repositories in its real form, and their files."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import quote

from fetch.misbehaving import Answer, Server

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def publish(server: Server, repo: str, files: dict[str, bytes], *, kind: str = "model", large: int = 100) -> None:
    """Put a repository on `server`; files of at least `large` bytes have a checksum, as those in Git LFS have."""
    siblings, tree = [], []
    for path, data in files.items():
        sibling = {"rfilename": path, "size": len(data), "blobId": "0" * 40}
        if len(data) >= large:
            sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        siblings.append(sibling)
        tree.append({"type": "file", "oid": "0" * 40, "size": len(data), "path": path})
        for revision in (COMMIT, "main"):
            place = f"/{'datasets/' if kind == 'dataset' else ''}{repo}/resolve/{revision}/{quote(path)}"
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            server.script(place, Answer(data, etag=etag, headers={"X-Repo-Commit": COMMIT}))
    info, api = {"id": repo, "sha": COMMIT, "siblings": siblings}, f"/api/{kind}s/{repo}"
    for path, value in ((api, info), (f"{api}/revision/main", info), (f"{api}/tree/{COMMIT}", tree)):
        server.script(path, Answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"}))
