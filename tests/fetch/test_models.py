"""Models from the hub and from web servers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from fetch.hub_server import COMMIT, publish
from fetch.misbehaving import Answer, Server

import threedgp
from threedgp.commands.options import DEMO, find_model
from threedgp.fetch.models import download_model_folder
from threedgp.runtime.errors import UserError

FILES = {name: (DEMO / name).read_bytes() for name in ("model.safetensors", "config.json", "README.md")}
SHA256 = hashlib.sha256(FILES["model.safetensors"]).hexdigest()


def serve(server: Server, files: dict[str, bytes] = FILES) -> str:
    for name, data in files.items():
        server.script(f"/models/toy/{name}", Answer(data, etag='"1"'))
    return server.url("/models/toy/model.safetensors")


def test_model_of_the_hub(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    publish(server, "ann/toys", FILES)
    model = threedgp.load("hf://ann/toys", "cpu")
    assert model.sha256 == SHA256 and model.class_names[0] == "dog"
    assert capsys.readouterr() == ("", "")
    assert find_model(f"hf://ann/toys@{COMMIT}") == find_model(Path("hf://ann/toys")) == model.folder
    with pytest.raises(UserError, match=r"ann/toys: .*no such revision"):
        info = "/api/models/ann/toys/revision/v9"
        server.script(info, Answer(b"{}", 404, {"X-Error-Code": "RevisionNotFound"}))
        find_model("hf://ann/toys@v9")


def test_model_at_an_address(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    address = serve(server)
    model = threedgp.load(f"{address}#sha256={SHA256}", "cpu")
    assert model.sha256 == SHA256 and model.resolution == 32
    assert capsys.readouterr() == ("", ""), "no progress unless it is asked for"
    server.scripts.clear()
    assert download_model_folder(f"{address}#sha256={SHA256}") == model.folder, "no network"


def test_wrong_checksum(server: Server) -> None:
    address = serve(server)
    with pytest.raises(UserError, match=r"^model: model\.safetensors cannot be downloaded .*checksum"):
        find_model(f"{address}#sha256={'0' * 64}")


def test_address_without_config(server: Server) -> None:
    address = serve(server, {"model.safetensors": FILES["model.safetensors"]})
    with pytest.raises(UserError, match=r"config\.json cannot be downloaded .*404"):
        find_model(f"{address}#sha256={SHA256}")


@pytest.mark.parametrize("name", ["hf://", "hf://ann", "hf://ann/toys/model", "hf:ann/toys", "hf://../toys@"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match="not a model of the hub"):
        find_model(name)
