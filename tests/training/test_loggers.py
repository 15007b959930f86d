"""Loggers write to disk, with the real packages, what their own readers read back."""

from __future__ import annotations

import builtins
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from threedgp.config import parse_config
from threedgp.runtime.errors import UserError
from threedgp.training.loggers import RunLogs
from threedgp.training.logging import CameraHistograms
from training.worlds import tiny_config

RECORDS = [{"kimg": 0.5, "generator/loss": 2.0}, {"kimg": 1.25, "generator/loss": 1.5, "distance/swd": 0.25}]


def log_twice(folder: Path, *names: str) -> CameraHistograms:
    """Log a line, then begin again, as after a rollback, and log `RECORDS` with histograms in the last."""
    config = tiny_config(train={"loggers": list(names)})
    histograms = CameraHistograms(config.camera, torch.device("cpu"))
    histograms.add(torch.rand(64, 8, generator=torch.manual_seed(0)))
    with RunLogs(folder, config) as logs:
        logs.open()({"kimg": 9.0, "generator/loss": 99.0})
        log = logs.open()
        log(RECORDS[0])
        log(RECORDS[1], histograms.end_line())
    return histograms


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    histograms = log_twice(tmp_path / "curves", "tensorboard")
    events = EventAccumulator(str(tmp_path / "curves" / "tensorboard"), size_guidance={"tensors": 0, "histograms": 0})
    events.Reload()
    found = {
        name: [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(name)]
        for name in events.Tags()["tensors"]
    }
    assert found["generator/loss"] == [(500, 2.0), (1250, 1.5)] and found["distance/swd"] == [(1250, 0.25)]
    (yaw,) = events.Histograms("camera/yaw")
    assert (yaw.step, yaw.histogram_value.num) == (1250, histograms.lines[0, 0].sum())


def wandb_records(data: bytes) -> Iterator[bytes]:
    """Records of an offline run: a log of LevelDB, in blocks of 32 KiB, behind a header of 7 bytes."""
    place, whole = 7, b""
    while place < len(data):
        left = 32768 - place % 32768
        if left < 7:  # too short for a header
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield whole
            whole = b""


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.delenv("WANDB_MODE", raising=False)
    log_twice(tmp_path / "curves", "wandb")
    (file,) = (tmp_path / "curves").rglob("*.wandb")
    assert "offline-run" in file.parent.name
    assert not [path for path in (tmp_path / "curves").rglob("*") if path.is_symlink()]
    lines, settings = [], {}
    for data in wandb_records(file.read_bytes()):
        record = Record.FromString(data)
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        lines += [{name: float(items[name]) for name in items if name[0] != "_"}] if items else []
        settings |= {item.key: item.value_json for item in record.run.config.update}
    assert lines == RECORDS
    assert '"batch_size"' in settings["train"] and "machine" not in settings


def test_together_with_dvclive(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log_twice(tmp_path / "curves", "tensorboard")
    rows = (tmp_path / "curves" / "plots" / "metrics" / "generator" / "loss.tsv").read_text().split()
    assert rows == ["step", "loss", "0.5", "2.0", "1.25", "1.5"]


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_one_sentence(name, module, tmp_path, monkeypatch) -> None:
    found = builtins.__import__

    def without(wanted: str, *arguments: object):
        if wanted == module:
            raise ImportError(wanted)
        return found(wanted, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=rf"^train.loggers: '{name}' needs the package {name}; run `pip install"):
        log_twice(tmp_path / "curves", name)


def test_an_unknown_logger_is_refused() -> None:
    values = tiny_config().model_dump(mode="json")
    values["train"]["loggers"] = ["comet"]
    with pytest.raises(UserError, match=r"train\.loggers"):
        parse_config(values)
