"""Repositories of the hub, downloaded by its own library from a local server."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
from fetch.hub_server import COMMIT, publish
from fetch.misbehaving import Answer, Server

from threedgp.fetch.hub import download_dataset, download_file, download_model, endpoint
from threedgp.runtime.errors import UserError

FILES = {
    "README.md": b"short",
    "data/train-00000.parquet": bytes(range(256)) * 4,
    "data/train-00001.parquet": bytes(range(255)) * 4,
    "x y.json": b"{}",
}


def everything(names: Sequence[str]) -> Sequence[str]:
    return names


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.url(""))
    return server


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_dataset(hub: Server, tmp_path: Path) -> None:
    publish(hub, "owner/set", FILES, kind="dataset")
    files = download_dataset("owner/set", tmp_path, everything)
    assert content(tmp_path) == FILES
    assert [(file.name, file.size) for file in files] == [(name, len(data)) for name, data in FILES.items()]
    sums = [f"sha256:{hashlib.sha256(data).hexdigest()}" if len(data) > 100 else None for data in FILES.values()]
    assert [file.checksum for file in files] == sums


def test_only_chosen_files_are_downloaded(hub: Server, tmp_path: Path) -> None:
    publish(hub, "owner/set", FILES, kind="dataset")
    [file] = download_dataset("owner/set", tmp_path, lambda names: [name for name in names if "00001" in name])
    assert list(content(tmp_path)) == [file.name] == ["data/train-00001.parquet"]
    assert not hub.gets(f"/datasets/owner/set/resolve/{COMMIT}/data/train-00000.parquet")


def test_stopped_dataset_is_resumed(hub: Server, tmp_path: Path) -> None:
    publish(hub, "owner/set", FILES, kind="dataset")
    second = f"/datasets/owner/set/resolve/{COMMIT}/data/train-00001.parquet"
    whole = hub.scripts.pop(second)
    with pytest.raises(UserError, match=r"^owner/set: "):
        download_dataset("owner/set", tmp_path, everything)
    hub.scripts[second] = whole
    first = f"/datasets/owner/set/resolve/{COMMIT}/data/train-00000.parquet"
    assert len(hub.gets(first)) == 1
    download_dataset("owner/set", tmp_path, everything)
    assert content(tmp_path) == FILES and len(hub.gets(first)) == 1


def test_damaged_file_is_named_and_removed(hub: Server, tmp_path: Path) -> None:
    publish(hub, "owner/set", FILES, kind="dataset")
    place = f"/datasets/owner/set/resolve/{COMMIT}/data/train-00001.parquet"
    [answer] = hub.scripts[place]
    hub.scripts[place] = [replace(answer, data=answer.data[::-1])]
    with pytest.raises(UserError, match=r"owner/set: data/train-00001\.parquet has the checksum .* run the same"):
        download_dataset("owner/set", tmp_path, everything)
    assert not (tmp_path / "data/train-00001.parquet").exists()


def test_token_is_sent(hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    publish(hub, "owner/set", FILES, kind="dataset")
    download_dataset("owner/set", tmp_path, everything)
    assert {one.headers.get("authorization") for one in hub.seen} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(403, "GatedRepo", "its terms were not accepted"), (404, "RepoNotFound", "no such repository")],
)
def test_closed_repository(hub: Server, tmp_path: Path, status: int, error: str, words: str) -> None:
    hub.script("/api/datasets/owner/set", Answer(b"{}", status, {"X-Error-Code": error}))
    with pytest.raises(UserError) as raised:
        download_dataset("owner/set", tmp_path, everything)
    for part in (words, "accept the terms at https://huggingface.co/datasets/owner/set", "put it in HF_TOKEN"):
        assert part in str(raised.value)


def test_failing_hub(hub: Server, tmp_path: Path) -> None:
    hub.script("/api/datasets/owner/set", Answer(b"{}", 418))
    with pytest.raises(UserError, match=r"^owner/set: cannot be downloaded from http://127.*418"):
        download_dataset("owner/set", tmp_path, everything)


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_hub(
    hub: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(PermissionError):  # commands print its file and what to do
        download_file("owner/net", "model.safetensors")


def test_hub_that_cannot_be_reached(
    start_server: Callable[[], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the attempts of huggingface_hub
    gone = start_server()
    gone.close()
    monkeypatch.setenv("HF_ENDPOINT", gone.url(""))
    with pytest.raises(UserError, match=r"^owner/set: cannot be downloaded from http://127"):
        download_dataset("owner/set", tmp_path, everything)
    with pytest.raises(UserError, match=r"^owner/net: cannot be downloaded from http://127"):
        download_file("owner/net", "model.safetensors")


@pytest.mark.parametrize("page", [b"<html>Welcome</html>", b"[]", b"{}", b'"x"', b'{"id": "owner/set"}'])
def test_endpoint_that_is_no_hub(hub: Server, tmp_path: Path, page: bytes) -> None:
    hub.script("/api/datasets/owner/set", Answer(page))
    with pytest.raises(UserError, match=r"^owner/set: http://127\S* does not answer as the hub does; .*HF_ENDPOINT"):
        download_dataset("owner/set", tmp_path, everything)


def test_endpoint_that_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://[bad")
    with pytest.raises(UserError, match=r"HF_ENDPOINT is 'http://\[bad', which is not an address"):
        download_dataset("owner/set", tmp_path, everything)
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert endpoint() == "https://huggingface.co"


def test_malformed_repository(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the name of a repository"):
        download_dataset("a/b/c", tmp_path, everything)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_mirror_folder(tmp_path: Path, form: str) -> None:
    """Files are linked; hidden ones that `hf download --local-dir` leaves are never chosen by a suffix."""
    for path, data in FILES.items():
        place = tmp_path / "mirror/owner/set" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    mirror = form.format(tmp_path / "mirror")
    files = download_dataset("owner/set", tmp_path / "in", everything, mirror=mirror)
    assert {file.name for file in files} == set(FILES) and content(tmp_path / "in") == FILES
    linked = tmp_path / "in/README.md"
    assert linked.stat().st_ino == (tmp_path / "mirror/owner/set/README.md").stat().st_ino
    assert download_file("owner/set", "README.md", mirror=mirror) == tmp_path / "mirror/owner/set/README.md"


def test_mirror_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^machine\.mirror: there is no folder"):
        download_dataset("owner/set", tmp_path, everything, mirror="/no/where")


def test_file_of_a_model_is_downloaded_once(hub: Server) -> None:
    publish(hub, "owner/net", FILES)
    path = download_file("owner/net", "data/train-00000.parquet")
    assert path.read_bytes() == FILES["data/train-00000.parquet"]
    hub.scripts.clear()
    assert download_file("owner/net", "data/train-00000.parquet") == path, "no network"


def test_file_that_the_repository_lacks(hub: Server) -> None:
    publish(hub, "owner/net", FILES)
    server_answer = Answer(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
    hub.script("/owner/net/resolve/main/model.safetensors", server_answer)
    with pytest.raises(UserError, match=r"^owner/net: the repository has no such file; name one .* owner/net:FILE"):
        download_file("owner/net", "model.safetensors")


def test_model(hub: Server) -> None:
    files = {
        "config.json": b'{"a": 1}',
        "preprocessor_config.json": b"{}",
        "model-00001-of-00002.safetensors": bytes(1000),
        "model-00002-of-00002.safetensors": bytes(1001),
        "model.safetensors.index.json": b"{}",
    }
    unwanted = {"pytorch_model.bin": b"pickle", "onnx/model.onnx": b"x", "onnx/config.json": b"x", "code.py": b"x"}
    publish(hub, "o/depth", {**files, **unwanted})
    assert content(download_model("o/depth")) == files
    assert not any(name in one.path for one in hub.seen for name in unwanted if name != "onnx/config.json")


def test_diffusion_model(hub: Server) -> None:
    files = {
        "model_index.json": b"{}",
        "scheduler/scheduler_config.json": b"{}",
        "text_encoder/model.safetensors": bytes(1000),
        "tokenizer/merges.txt": b"x",
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": bytes(1001),
    }
    unwanted = {
        "README.md": b"x",
        "all.safetensors": b"x",
        "safety_checker/model.safetensors": b"x",
        "unet/code.py": b"x",
        "unet/diffusion_pytorch_model.bin": b"pickle",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"x",
        "unet/diffusion_pytorch_model.non_ema.safetensors": b"x",
    }
    publish(hub, "o/images", {**files, **unwanted})
    assert content(download_model("o/images", pipeline=True)) == files
    publish(hub, "o/lora", {"pytorch_lora_weights.safetensors": bytes(1000)})
    with pytest.raises(UserError, match=r"^o/lora has no model_index\.json with safetensors"):
        download_model("o/lora", pipeline=True)


def test_model_of_pickles_is_refused(hub: Server) -> None:
    publish(hub, "o/old", {"config.json": b"{}", "pytorch_model.bin": bytes(1000)})
    with pytest.raises(UserError, match=r"^o/old has no config\.json with safetensors"):
        download_model("o/old")
