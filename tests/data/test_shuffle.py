"""Training shards: the join, the global shuffle, and what happens when inputs do not belong together."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from threedgp.config import ShardsConfig
from threedgp.data import schemas, shuffle
from threedgp.data.shards import ShardFolder, ShardWriter
from threedgp.data.shuffle import JoinedShards, write_training_shards
from threedgp.runtime.errors import UserError

COUNT, DIM, RESOLUTION = 100, 3, 4
SELECTED = [n for n in range(COUNT) if n % 5]
DEEP = [n for n in SELECTED if n % 7]
"""Images with usable depth; the other selected ones are rejects."""


def name(number: int) -> str:
    return f"{number:03d}"


def metric_range(number: int) -> dict[str, float]:
    return {"near": 1.0 + number, "far": (1.0 + number) * (2 + number % 7)}


def write_inputs(place: Path, shard_rows: int, dim: int = DIM, fov: dict[int, float] | None = None) -> JoinedShards:
    cuts = [range(start, min(start + shard_rows, COUNT)) for start in range(0, COUNT, shard_rows)]
    about = {"class_names": ["a", "b", "c"], "resolution": RESOLUTION}
    prepared = ShardWriter(place / "prepared", schemas.PREPARED, "prepared", about)
    selected = ShardWriter(place / "selected", schemas.SELECTED, "selected", {}, part_name="ids.parquet")
    schema = pa.schema([schemas.DEPTH.field(name) for name in ("id", "depth")]) if fov is None else schemas.DEPTH
    depth = ShardWriter(place / "depth", schema, "depth", {"estimator": "sidecar"})
    meta = {"embedder": "net" if dim else "none", "embedding_dim": dim}
    embed = ShardWriter(place / "embed", schemas.embed(dim), "embed", meta)
    ids = {"id": [name(n) for n in SELECTED], "label": [n % 3 for n in SELECTED]}
    selected.write(0, pa.table(ids, schemas.SELECTED))
    for shard, numbers in enumerate(cuts):
        rows = [{"id": name(n), "label": n % 3, "image": {"bytes": b"i%d" % n}, "crop": [0, 0, 4, 4]} for n in numbers]
        prepared.write(shard, pa.Table.from_pylist(rows, schemas.PREPARED))
        rows = [{"id": name(n), "depth": b"d%d" % n, "fov": (fov or {}).get(n)} for n in numbers if n in DEEP]
        if fov:  # metric depth, except of every fifth image
            rows = [row | (metric_range(n) if (n := int(row["id"])) % 5 else {}) for row in rows]
        depth.write(shard, pa.Table.from_pylist(rows, schema))
        vector = {} if not dim else {"embedding": None}
        rows = [
            {"id": name(n), **{key: np.full(dim, n, np.float16) for key in vector}} for n in numbers if n in SELECTED
        ]
        embed.write(shard, pa.Table.from_pylist(rows, schemas.embed(dim)))
    prepared.finish()
    selected.finish()
    depth.finish(rejects=len(SELECTED) - len(DEEP))
    embed.finish()
    return joined(place)


def joined(place: Path) -> JoinedShards:
    return JoinedShards(*(ShardFolder(place / kind) for kind in ("prepared", "selected", "depth", "embed")))


def write(place: Path, seed: int = 0, rows: int = 30) -> ShardFolder:
    settings = ShardsConfig(rows_per_shard=rows, row_group_rows=8, seed=seed)
    write_training_shards(joined(place), place / "shards", settings, "toy")
    return ShardFolder(place / "shards")


def test_join(tmp_path: Path) -> None:
    write_inputs(tmp_path, 27)
    folder = write(tmp_path)
    rows = pa.concat_tables(folder.iterate()).to_pylist()
    assert sorted(row["id"] for row in rows) == [name(n) for n in DEEP]
    for row in rows:
        n = int(row["id"])
        image = {"bytes": b"i%d" % n, "path": None}
        assert row == {"id": name(n), "label": n % 3, "image": image, "depth": b"d%d" % n, "embedding": [n] * DIM}
    assert [file.rows for file in folder.manifest.files] == [30, 30, len(DEEP) - 60]
    about = {key: folder.meta[key] for key in ("dataset", "resolution", "estimator", "embedder", "embedding_dim")}
    assert about == {
        "dataset": "toy",
        "resolution": RESOLUTION,
        "estimator": "sidecar",
        "embedder": "net",
        "embedding_dim": DIM,
    }
    assert folder.meta["class_names"] == ["a", "b", "c"] and folder.meta["num_classes"] == 3
    assert folder.meta["class_counts"] == np.bincount([n % 3 for n in DEEP]).tolist()


def test_quantiles_of_fields_of_view(tmp_path: Path) -> None:
    """One row for all images, then one for each class; a class without estimates has the row of all images."""
    fov = {n: float(np.float32(10 + n / 7)) for n in DEEP if n % 3 < 2 and n % 4}
    write_inputs(tmp_path, 27, fov=fov)
    everything, *classes = write(tmp_path).meta["fov_quantiles"]
    grid = np.linspace(0.005, 0.995, 33)
    np.testing.assert_allclose(everything, np.quantile([*fov.values()], grid), atol=0.006)  # rounded to 0.01
    for label in (0, 1):
        values = [value for n, value in fov.items() if n % 3 == label]
        np.testing.assert_allclose(classes[label], np.quantile(values, grid), atol=0.006)
    assert len(classes) == 3 and classes[2] == everything


def test_medians_of_metric_depth(tmp_path: Path) -> None:
    write_inputs(tmp_path, 27, fov={1: 20.0})
    ranges = [metric_range(n) for n in DEEP if n % 5]
    near, far = (np.array([one[name] for one in ranges]) for name in ("near", "far"))
    expected = {"near": np.median(near), "far": np.median(far), "ratio": np.median(far / near)}
    assert write(tmp_path).meta["depth_range"] == pytest.approx(expected)


@pytest.mark.parametrize("fov", [None, {}])
def test_without_fields_of_view(fov: dict[int, float] | None, tmp_path: Path) -> None:
    """The estimator gives none, nor metric depth, or the depth shards lack the columns."""
    write_inputs(tmp_path, 27, fov=fov)
    meta = write(tmp_path).meta
    assert meta["fov_quantiles"] is None and meta["depth_range"] is None


def test_without_embeddings(tmp_path: Path) -> None:
    write_inputs(tmp_path, 27, dim=0)
    assert write(tmp_path).read(0).column_names == ["id", "label", "image", "depth"]


def test_shuffle_is_global_and_seeded(tmp_path: Path) -> None:
    write_inputs(tmp_path / "a", 27)
    write_inputs(tmp_path / "b", 9)  # the same set, cut otherwise
    write_inputs(tmp_path / "c", 27)
    orders = [write(tmp_path / place, seed).column("id").to_pylist() for place, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert orders[0] == orders[1] != orders[2]
    places = np.array([int(n) for n in orders[0]])
    assert abs(np.corrcoef(places, np.arange(len(places)))[0, 1]) < 0.3
    assert len({n // 27 for n in places[:30]}) == 4  # one shard has rows from all over the set


def test_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("a", "b"):
        write_inputs(tmp_path / place, 27)
    expected = write(tmp_path / "a").manifest
    real, calls = ShardWriter.write, []

    def fail_at_second(self: ShardWriter, index: int, table: pa.Table) -> None:
        calls.append(index)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, index, table)

    monkeypatch.setattr(ShardWriter, "write", fail_at_second)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "b")
    monkeypatch.setattr(shuffle, "_deal", lambda *_: pytest.fail("dealt again"))
    assert write(tmp_path / "b").manifest == expected
    assert calls == [0, 1, 1, 2]


def test_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    write_inputs(tmp_path / "many", 4)
    write_inputs(tmp_path / "few", 50)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 8, hard))
    try:
        many = write(tmp_path / "many")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert pa.concat_tables(many.iterate()).equals(pa.concat_tables(write(tmp_path / "few").iterate()))


def test_inputs_that_do_not_belong_together(tmp_path: Path) -> None:
    write_inputs(tmp_path / "a", 27)
    write_inputs(tmp_path / "b", 9)
    parts = {kind: ShardFolder(tmp_path / "a" / kind) for kind in ("prepared", "selected", "depth", "embed")}
    for kind in ("depth", "embed"):
        with pytest.raises(UserError, match=rf"{kind}: made from other images.*--single-item {kind}"):
            JoinedShards(**{**parts, kind: ShardFolder(tmp_path / "b" / kind)})


@pytest.mark.parametrize(("kind", "stage"), [("prepared", "prepare"), ("embed", "embed")])
def test_images_that_one_of_them_lacks(tmp_path: Path, kind: str, stage: str) -> None:
    write_inputs(tmp_path, 50)
    whole = ShardFolder(tmp_path / kind)
    part = ShardWriter(tmp_path / "other" / kind, whole.schema, kind, whole.meta)
    for shard in range(2):
        part.write(shard, whole.read(shard).slice(2))
    part.finish()
    whole.folder.rename(tmp_path / "old")
    part.folder.rename(whole.folder)
    with pytest.raises(UserError, match=rf"{kind}: made from other images.*--single-item {stage}`"):
        write(tmp_path)


def test_needs_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path, 50)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="needed"):
        write(tmp_path)


def test_groups_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise pa.ArrowInvalid("Failed casting from large_binary to binary: input array too large")

    write_inputs(tmp_path, 27)
    monkeypatch.setattr(ShardWriter, "write", too_large)
    with pytest.raises(UserError, match=r"shards\.row_group_rows: 8 images take more than 2 GiB; lower it"):
        write(tmp_path)


@pytest.mark.slow
def test_shards_of_more_than_two_gib(tmp_path: Path) -> None:
    count, size = 36, 2**26
    about = {"class_names": ["a"], "resolution": RESOLUTION}
    tables = {
        "prepared": (schemas.PREPARED, [{"image": {"bytes": bytes([n]) * size}, "label": 0} for n in range(count)]),
        "selected": (schemas.SELECTED, [{"label": 0}] * count),
        "depth": (schemas.DEPTH, [{"depth": b"d"}] * count),
        "embed": (schemas.embed(0), [{}] * count),
    }
    for kind, (schema, rows) in tables.items():
        meta = about | {"estimator": "sidecar", "embedder": "none", "embedding_dim": 0}
        writer = ShardWriter(tmp_path / kind, schema, kind, meta)
        pieces = [pa.Table.from_pylist([row | {"id": name(n)}], schema) for n, row in enumerate(rows)]
        writer.write(0, pa.concat_tables(pieces))
        writer.finish(**({"rejects": 0} if kind == "depth" else {}))
    settings = ShardsConfig(rows_per_shard=count, row_group_rows=8)
    write_training_shards(joined(tmp_path), tmp_path / "shards", settings, "toy")
    folder = ShardFolder(tmp_path / "shards")
    for group in range(5):
        for row in folder.read_group(0, group).to_pylist():
            assert row["image"]["bytes"] == bytes([int(row["id"])]) * size
