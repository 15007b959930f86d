"""Columns of the Parquet shards that pass between the stages, one row a picture.

Columns whose width is a setting are made by a function. A width of zero (no embedding) leaves the column out.
"""

from __future__ import annotations

import pyarrow as pa

VERSION = 2
"""Goes up when the meaning of a column changes; shards of another version are refused. 2: depth is compressed."""

_IDENTITY = [pa.field("id", pa.string(), nullable=False), pa.field("label", pa.int32(), nullable=False)]

PREPARED = pa.schema(
    [
        *_IDENTITY,
        pa.field("image", pa.binary(), nullable=False),  # encoded square RGB picture
        pa.field("crop", pa.list_(pa.int32(), 4), nullable=False),  # left, top, right, bottom in original pixels
    ]
)

REJECTS = pa.schema([_IDENTITY[0], pa.field("reason", pa.string(), nullable=False)])

SELECTED = pa.schema(_IDENTITY)

DEPTH = pa.schema(
    [
        _IDENTITY[0],
        pa.field("depth", pa.binary(), nullable=False),  # `images.depth_to_bytes`; larger = farther; empty = none
    ]
)


def features(dim: int) -> pa.Schema:
    """Classifier features of `dim` values, for selection and distances between sets."""
    return pa.schema([*_IDENTITY, _vector("feature", pa.float32(), dim)])


def embed(dim: int) -> pa.Schema:
    """Classifier features of `dim` values, for distillation."""
    return pa.schema([_IDENTITY[0], *([_vector("embedding", pa.float16(), dim)] if dim else [])])


def training(dim: int) -> pa.Schema:
    """Training rows with `dim` classifier features."""
    return pa.schema([*_IDENTITY, PREPARED.field("image"), DEPTH.field("depth"), *list(embed(dim))[1:]])


def _vector(name: str, value: pa.DataType, dim: int) -> pa.Field:
    # Vectors and their values are never null: readers may take the flat buffer as it is.
    return pa.field(name, pa.list_(pa.field("item", value, nullable=False), dim), nullable=False)
