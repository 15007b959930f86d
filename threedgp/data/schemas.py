"""Columns of the Parquet shards that pass between the stages, one row per image.

The columns `image` and `label` have the layout of the features `Image` and `ClassLabel` of the package `datasets`, and
`hub_metadata` declares them, so that `datasets.load_dataset("parquet", data_files=...)` shows images and class names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

VERSION = 3
"""Version of the columns; shards of other versions are refused. 2: compressed depth. 3: column `image` is a struct."""

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""An encoded RGB image; `path` is null, since the bytes are here."""

_ID, _LABEL = pa.field("id", pa.string()), pa.field("label", pa.int64())
_IMAGE = pa.field("image", IMAGE)
_DEPTH = pa.field("depth", pa.binary())  # `images.depth_to_bytes`; larger = farther; empty = no depth

PREPARED = pa.schema(
    [_ID, _LABEL, _IMAGE, ("crop", pa.list_(pa.int32(), 4))]
)  # left, top, right, bottom in the original
REJECTS = pa.schema([_ID, ("reason", pa.string())])
SELECTED = pa.schema([_ID, _LABEL])
DEPTH = pa.schema([_ID, _DEPTH, ("fov", pa.float32()), ("near", pa.float32()), ("far", pa.float32())])
"""`fov` in degrees, null where it was not estimated. `near` and `far` are the depth of the smallest and the largest
level in meters, null where depth is not metric. Shards of earlier versions of the code lack these three."""


def features(dim: int) -> pa.Schema:
    """Columns of stage `features`: `dim` values per image, for selection and for distances between sets."""
    return pa.schema([_ID, _LABEL, ("feature", pa.list_(pa.float32(), dim))])


def embed(dim: int) -> pa.Schema:
    """Columns of stage `embed`: `dim` values per image, for distillation; without `embedding` if `dim` is 0."""
    return pa.schema([_ID, *_embedding(dim)])


def training(dim: int) -> pa.Schema:
    """Columns of the training shards; without `embedding` if `dim` is 0."""
    return pa.schema([_ID, _LABEL, _IMAGE, _DEPTH, *_embedding(dim)])


def with_large_offsets(schema: pa.Schema) -> pa.Schema:
    """`schema` with column types that hold more than 2 GiB in one array."""
    large = {pa.binary(): pa.large_binary(), IMAGE: pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])}
    return pa.schema([field.with_type(large.get(field.type, field.type)) for field in schema])


def _embedding(dim: int) -> list[pa.Field]:
    return [pa.field("embedding", pa.list_(pa.float16(), dim))] if dim else []


def hub_metadata(schema: pa.Schema, class_names: Sequence[str]) -> str:
    """Value of the key `huggingface` of the schema's metadata: the features of `datasets`, in JSON.

    Without `class_names` labels stay numbers.
    """
    features = {field.name: _hub_feature(field.type) for field in schema}
    if class_names and "label" in features:
        features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    return json.dumps({"info": {"features": features}})


def _hub_feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _hub_feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    name = str(kind) if pa.types.is_string(kind) or pa.types.is_binary(kind) else np.dtype(kind.to_pandas_dtype()).name
    return {"dtype": name, "_type": "Value"}
