"""Shards are readable without this project: by `datasets`, pandas and Pillow."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from threedgp.data import schemas
from threedgp.data.images import depth_to_bytes, encode_image
from threedgp.data.shards import ShardWriter

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
EMBEDDING = [0.5, -2.0, 3.0]
CLASSES = ["dog", "elephant"]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A training shard of three rows, with labels 0, 1, 1."""
    writer = ShardWriter(tmp_path, schemas.training(3), "shards", {"class_names": CLASSES})
    depth = depth_to_bytes(np.zeros((8, 8), np.uint16))
    rows = [
        {
            "id": str(row),
            "label": min(row, 1),
            "image": {"bytes": encode_image(image, "webp")},
            "depth": depth,
            "embedding": EMBEDDING,
        }
        for row, image in enumerate(IMAGES)
    ]
    writer.write(0, pa.Table.from_pylist(rows, schemas.training(3)))
    return tmp_path / "part-00000.parquet"


def test_metadata_follow_the_documented_layout(shard: Path) -> None:
    schema = pq.read_schema(shard)
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"] == {
        "id": {"dtype": "string", "_type": "Value"},
        "label": {"names": CLASSES, "_type": "ClassLabel"},
        "image": {"_type": "Image"},
        "depth": {"dtype": "binary", "_type": "Value"},
        "embedding": {"feature": {"dtype": "float16", "_type": "Value"}, "length": 3, "_type": "List"},
    }
    # The Arrow types that `datasets` gives these features; it ignores a feature whose column has another type.
    assert schema.field("image").equals(pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    assert schema.field("label").equals(pa.field("label", pa.int64()))


def test_pandas_and_pillow_read_the_images(shard: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(shard)
    for row, image in zip(frame.itertuples(), IMAGES, strict=True):
        decoded = Image.open(io.BytesIO(row.image["bytes"]))
        assert decoded.format == "WEBP"
        np.testing.assert_array_equal(np.asarray(decoded), image)
    assert frame["embedding"][0].tolist() == EMBEDDING


def test_datasets_shows_images_and_class_names(shard: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.load_dataset("parquet", data_files=str(shard), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.features["image"] == datasets.Image() and data.features["label"] == datasets.ClassLabel(names=CLASSES)
    assert data.features["embedding"] == datasets.List(datasets.Value("float16"), length=3)
    for row, image in zip(data, IMAGES, strict=True):
        np.testing.assert_array_equal(np.asarray(row["image"]), image)
    assert data.features["label"].int2str(data["label"][2]) == "elephant"
    assert data[0]["embedding"] == EMBEDDING
