"""A stand-in for the part of the Hugging Face hub that takes uploads: it creates repositories, stores large files by
their checksums, and commits; requests without the right token are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_write"


class UploadHub:
    """Holds what was uploaded."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.large: dict[str, bytes] = {}
        """By checksum."""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.messages: list[str] = []
        hub = self

        class Handler(_Handler):
            mine = hub

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, body: bytes) -> Any:
        if method == "PUT" and (found := re.fullmatch(r"/upload/(\w+)", path)):
            assert hashlib.sha256(body).hexdigest() == found[1], "the announced checksum"
            self.large[found[1]] = body
            return {}
        if path == "/api/validate-yaml":
            header = json.loads(body)["content"].split("---\n")[1]
            assert isinstance(yaml.safe_load(header), dict)
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/{self.created[-1]['organization']}/{self.created[-1]['name']}"}
        if found := re.fullmatch(r"/api/models/([\w/-]+)/preupload/main", path):
            return {
                "files": [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if one["size"] > 10_000 else "regular",
                        "shouldIgnore": False,
                    }
                    for one in json.loads(body)["files"]
                ]
            }
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            upload = {one["oid"]: {"upload": {"href": f"{self.url}/upload/{one['oid']}"}} for one in objects}
            return {"transfer": "basic", "objects": [one | {"actions": upload[one["oid"]]} for one in objects]}
        if found := re.fullmatch(r"/api/models/([\w/-]+)/commit/main", path):
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        raise LookupError(f"{method} {path}")

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> dict[str, str]:
        files = self.repositories.setdefault(repo, {})
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile" and value["size"] == len(self.large[value["oid"]])
                files[value["path"]] = self.large[value["oid"]]
        commit = "f" * 40
        return {"commitUrl": f"{self.url}/{repo}/commit/{commit}", "commitOid": commit}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mine: UploadHub

    def log_message(self, *arguments: object) -> None:
        pass

    def _handle(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        status, content = 401, {"error": "Invalid username or password."}
        # Storage is addressed by signed URLs, without the token.
        if path.startswith("/upload/") or self.headers.get("Authorization") == f"Bearer {TOKEN}":
            try:
                status, content = 200, self.mine.answer(self.command, path, body)
            except LookupError as unknown:
                status, content = 404, {"error": str(unknown)}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PUT = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
