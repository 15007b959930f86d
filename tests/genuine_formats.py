"""Miniatures of the data sets, in the formats in which they are published."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from threedgp.data.source import RawPicture, Source

WNIDS = ("n01440764", "n01443537", "n02129165")


def picture(number: int, height: int = 40, width: int = 52) -> NDArray[np.uint8]:
    """A smooth image `[H, W, 3]` that no other number has."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: NDArray[np.uint8], kind: str = "JPEG", **settings: object) -> bytes:
    """A file of Pillow's format `kind`; WebP is lossless."""
    stream = io.BytesIO()
    settings = {"lossless": True} if kind == "WEBP" else settings
    Image.fromarray(image).save(stream, kind, **settings)
    return stream.getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    """What Pillow makes of a file."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def imagenet_files(per_class: int = 4, classes: tuple[str, ...] = WNIDS, side: int = 40) -> dict[str, bytes]:
    """`<wnid>/<wnid>_<number>.JPEG` -> JPEG."""
    return {
        f"{wnid}/{wnid}_{number * 7}.JPEG": encoded(picture(100 * label + number, side, side + 12))
        for label, wnid in enumerate(classes)
        for number in range(per_class)
    }


def write_tar(path: Path, files: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    """A plain tar of `files`; also returned."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    path.write_bytes(stream.getvalue())
    return stream.getvalue()


def write_imagenet_tar(path: Path, files: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> None:
    """The official layout: a tar of class tars, here not in the order of the classes."""
    classes = sorted({name.split("/")[0] for name in files}, reverse=True)
    inner = {
        f"{wnid}.tar": write_tar(path, {name.split("/")[1]: files[name] for name in files if wnid in name}, format)
        for wnid in classes
    }
    write_tar(path, inner, format)


def write_tree(root: Path, files: dict[str, bytes]) -> None:
    """`files` below `root`."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def hub_table(pictures: list[bytes], labels: list[int] | None = None, names: list[str] | None = None) -> pa.Table:
    """Rows as the hub's `datasets` writes them: `image` = struct of bytes and path, its own metadata."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": data, "path": f"{number}.jpg"} for number, data in enumerate(pictures)]
    table = pa.table({"image": pa.array(rows, kind)})
    features: dict[str, object] = {"image": {"_type": "Image"}}
    if labels is not None:
        table = table.append_column("label", pa.array(labels, pa.int64()))
        features["label"] = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_hub_files(folder: Path, tables: list[pa.Table], split: str = "train", row_group_size: int = 3) -> None:
    """Numbered Parquet files of a split, with small row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(tables):
        name = f"{split}-{number:05d}-of-{len(tables):05d}.parquet"
        pq.write_table(table, folder / name, row_group_size=row_group_size)


def write_lmdb(folder: Path, values: dict[bytes, bytes]) -> None:
    """An LMDB as LSUN has it: `data.mdb` and `lock.mdb`."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**28) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)


def write_lsun_zip(path: Path, values: dict[bytes, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    """`horse.zip`: the LMDB in a folder of the category's name."""
    folder = path.parent / "zipped"
    write_lmdb(folder / path.stem, values)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*.mdb")):
            archive.write(file, file.relative_to(folder))


def lsun_values(count: int = 6, side: int = 40) -> dict[bytes, bytes]:
    """ASCII key -> WebP."""
    return {
        f"{number * 2654435761 % 2**32:08x}{number:032x}".encode(): encoded(picture(number, side, side + 12), "WEBP")
        for number in range(count)
    }


def read_all(source: Source) -> dict[str, RawPicture]:
    """All images of a source, by id; its entries are sorted by id and unique."""
    entries = source.entries()
    names = entries["id"].to_pylist()
    assert names == sorted(set(names))
    pictures = list(source.read(entries))
    assert [(picture.id, picture.label) for picture in pictures] == list(
        zip(names, entries["label"].to_pylist(), strict=True)
    )
    return {picture.id: picture for picture in pictures}
