"""Random input of every kind that comes from outside: it is used, or refused with one sentence.

Time and memory are bounded. ``FUZZ_EXAMPLES=5000 pytest tests/test_fuzz.py`` runs longer than CI does.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limits import limits
from threedgp.commands.requirements import memory_problem
from threedgp.config import Config, load_config, parse_config
from threedgp.config.errors import _all_keys
from threedgp.conversion.models import convert_trusted
from threedgp.conversion.snapshots import network_tensors, read_snapshot
from threedgp.data.archives import parquet_files
from threedgp.evaluation.sample_files import open_samples
from threedgp.models.initialization import initial_generator
from threedgp.models.loading import load_model
from threedgp.models.saving import CONFIG, write_model
from threedgp.runtime.errors import UserError

fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

VALUES = st.sampled_from(
    [
        None, True, -1, 0, 1, 2, 3, 12, 1000, 10**6, 10**12, 10**18, 10**30, 10**400, 0.5, 24.0, 1e300, -1e300,
        math.nan, math.inf, "", "24", "x", "a\0b", "\x1b[31m", "9" * 5000, "20%", "1e999%", [], [1], [0, 1], [1] * 100,
        [[]], {}, {"a": 1}, {1: 2},
    ]
)  # fmt: skip
TOKENS = st.sampled_from(
    [
        "a", "dataset", ": ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "!!int ", "!!float ", "!!binary ", "!!set ",
        "!!omap ", "!!timestamp ", "\n", "  ", "|", ">", "'", '"', "#", "2024-13-01", "0x", "9" * 5000, "1e999",
        "<<: ", "? ", "%YAML 1.1\n", "---\n", "\t", "\0", "\x85", "~", "=", "@", "`",
    ]
)  # fmt: skip


def answered(call: Callable[[], Any]) -> Any:
    """What `call` returns; None if it refuses its input with one sentence. Everything else is an error."""
    try:
        with limits():
            return call()
    except UserError as refusal:
        text = str(refusal)
        assert "\n" not in text and len(text) < 2000 and "no answer within" not in text, text
        return None


def changed(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of nested dictionaries with another value at the dotted `key`."""
    first, _, rest = key.partition(".")
    inner = content.get(first)
    return {**content, first: changed(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with some bytes changed, cut out or inserted."""

    def apply(changes: list[tuple[int, bytes, int]]) -> bytes:
        data = bytearray(whole)
        for place, new, removed in changes:
            data[place : place + removed] = new
        return bytes(data)

    change = st.tuples(st.integers(0, len(whole) - 1), st.binary(max_size=4), st.integers(0, 4))
    return st.lists(change, min_size=1, max_size=4).map(apply)


@fuzzed
@given(st.lists(st.tuples(st.sampled_from(_all_keys(Config)), VALUES), min_size=1, max_size=2))
def test_settings(changes: list[tuple[str, Any]]) -> None:
    values: dict[str, Any] = {"dataset": {"name": "toy", "source": "procedural", "resolution": 32}}
    values["model"] = {"discriminator": {"patch_resolution": 16}}
    for key, value in changes:
        values = changed(values, key, value)
    config = answered(lambda: parse_config(values))
    if config is not None:
        answered(lambda: memory_problem(config))


@fuzzed
@given(st.lists(TOKENS, max_size=40).map("".join))
def test_yaml(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "params.yaml"
    file.write_text(text)
    answered(lambda: load_config(file))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {
        "z_dim": 4, "w_dim": 4, "plane_resolution": 8, "plane_channels": 2, "channel_max": 4, "decoder_hidden": 4,
        "coarse_samples": 2, "fine_samples": 2,
    }  # fmt: skip
    model = {"generator": sizes, "depth_adaptor": {"channels": 2, "layers": 1}}
    config = parse_config({"dataset": {"name": "toy"}, "camera": {"hidden": 4, "embedding": 2}, "model": model})
    folder = tmp_path_factory.mktemp("small model")
    generator = initial_generator(config.camera, config.model, 3, [0.5, 0.25, 0.25], seed=0)
    write_model(folder, generator, resolution=16, class_names=["a", "b", "c"], seed=0, kimg=1.0)
    return folder


MODEL_KEYS = ["num_classes", "class_names", "class_probabilities", "fov_quantiles", "resolution", "seed", "kimg"]
MODEL_KEYS += ["dataset", "other"]
MODEL_KEYS += [key for key in _all_keys(Config) if key.split(".")[0] in ("camera", "model")]


@fuzzed
@given(st.sampled_from(MODEL_KEYS), VALUES)
def test_model_configs(small_model: Path, key: str, value: Any) -> None:
    file = small_model / CONFIG
    whole = file.read_text()
    try:
        file.write_text(json.dumps(changed(json.loads(whole), key, value)))
        answered(lambda: load_model(small_model))
    finally:
        file.write_text(whole)


def snapshot() -> bytes:
    """A pickle in the layout of a published snapshot."""
    tensors = {"w": torch.arange(6.0).reshape(2, 3).t(), "h": torch.ones(4).half(), "empty": torch.zeros(0, 3)}
    state = {"_parameters": tensors, "_buffers": {}, "_modules": {"a": None}, "cfg": {"a": {"b": 1.5}}}
    record = pickle.dumps({"state": state, "class_name": "G"}, protocol=3)[2:-1]
    return b"\x80\3}U\5G_emacsrc.torch_utils.persistence\n_reconstruct_persistent_obj\n" + record + b"\x85Rs."


CALLS = [
    "torch._utils\n_rebuild_tensor_v2", "torch.storage\n_load_from_bytes", "collections\nOrderedDict", "os\nsystem",
    "numpy.core.multiarray\nscalar", "numpy\ndtype", "torch\nSize", "torch\nFloatStorage", "torch\nfloat32",
    "torch.nn.modules.linear\nLinear", "x.torch_utils.persistence\n_reconstruct_persistent_obj",
]  # fmt: skip
OPCODES = st.sampled_from(
    [bytes([code]) for code in b"}](t)NsuRbae02ldo\x81\x85\x86\x88\x8f\x90\x91\x92\x94Q"]
    + [b"h\0", b"h\1", b"K\1", b"U\3abc", b"B\4\0\0\0abcd", b"r\xff\xff\xff\x7f", b"\x8a\xff" + b"\x7f" * 255]
    + [b"\x8e" + bytes(5) + b"\1\0\0", b"\x95" + bytes(5) + b"\1\0\0"]
    + [f"c{name}\n".encode() for name in CALLS]
)


@fuzzed
@given(damaged(snapshot()) | st.lists(OPCODES, max_size=40).map(lambda parts: b"\x80\4" + b"".join(parts) + b"."))
def test_snapshots(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "snapshot.pkl"
    file.write_bytes(content)
    answered(lambda: convert_trusted(file, file.parent / "model"))


def test_the_snapshot_is_whole(tmp_path: Path) -> None:
    """Otherwise its damaged copies would all be refused for the same reason."""
    (tmp_path / "a.pkl").write_bytes(snapshot())
    tensors = network_tensors(read_snapshot(tmp_path / "a.pkl")["G_ema"])
    assert torch.equal(tensors["w"], torch.arange(6.0).reshape(2, 3).t()) and set(tensors) == {"w", "h", "empty"}


HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 8, 8, 3), }"
SHAPES = st.lists(st.sampled_from([-1, 0, 1, 2, 3, 8, 2**31, 2**62, 2**63, 10**30, 2.0, True, None]), max_size=5)


@fuzzed
@given(
    damaged(HEADER.encode()) | SHAPES.map(lambda shape: HEADER.replace("(2, 8, 8, 3)", str(tuple(shape))).encode()),
    st.sampled_from(["arr_0", "arr_1"]),
)
def test_npz_headers(tmp_path_factory: pytest.TempPathFactory, header: bytes, name: str) -> None:
    folder = tmp_path_factory.mktemp("npz")
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        for member in ("arr_0", "arr_1"):
            text = header if member == name else HEADER.encode()
            data = b"\x93NUMPY\1\0" + (len(text) + 1).to_bytes(2, "little") + text + b"\n" + bytes(384)
            archive.writestr(f"{member}.npy", data)
    samples = answered(lambda: open_samples(folder / "a.npz", None, None, 8, folder))
    if samples is not None:
        answered(lambda: samples.images.head(9))


def parquet() -> bytes:
    images = [{"bytes": b"%04d" % number, "path": "x"} for number in range(20)]
    table = pa.table({"image": images, "label": np.arange(20), "box": [[0, 4, 0, 4.0]] * 20})
    stream = io.BytesIO()
    names = json.dumps({"info": {"features": {"label": {"names": ["a", "b"]}}}})
    pq.write_table(table.replace_schema_metadata({"huggingface": names}), stream, row_group_size=8)
    return stream.getvalue()


@fuzzed
@given(damaged(parquet()))
def test_parquet(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "a.parquet"
    file.write_bytes(content)
    answered(lambda: parquet_files.class_names(file, 2))
    rows = answered(lambda: parquet_files._list_rows(file, "a/", 0, True))
    if rows is not None:
        answered(lambda: list(parquet_files.ParquetStore(file.parent, [file.name]).load(rows)))
