"""Source `rgbd`: `<id>.jpg` with `<id>_depth.png` beside it, in a folder or a zip.

An optional `dataset.json` holds labels: `{"labels": [["name.jpg", 3], ...]}`, with names relative to its own folder.
Without it, the first folder is the class. This is the layout of the data that the authors of 3DGP released.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from threedgp.data.archives.files import FileEntry, Tree, open_tree, read_listed
from threedgp.data.archives.listing import (
    LISTING,
    MAX_CLASSES,
    OUTSIDE,
    SINGLE_CLASS,
    first_folders,
    list_pictures,
    read_listing,
    tabulate,
    write_listing,
)
from threedgp.data.archives.pictures import BadPicture, decode_depth, decode_picture
from threedgp.data.shards import ShardFolder
from threedgp.data.source import RawPicture, SourceKind
from threedgp.runtime.errors import UserError

DEPTH_SUFFIX = "_depth.png"
LABELS = "dataset.json"


def download(path: Path, folder: Path) -> None:
    """List the images at `path` and their depth maps in `folder`; ids are relative paths without the suffix.

    Raises:
        UserError: `path` does not exist, holds no images, or has an invalid `dataset.json`.
    """
    tree = open_tree(path)
    files = list_pictures(tree, path)
    depths = {file.path: file for file in files if file.path.endswith(DEPTH_SUFFIX)}
    images = [file for file in files if file.path not in depths]
    if not images:
        raise UserError(f"dataset.path: {path} holds depth maps (*{DEPTH_SUFFIX}) but no images beside them.")
    class_names, labels, unlabeled = _labels(tree, path, [file.path for file in images])
    found: dict[str, FileEntry] = {}
    maps = []
    for image in images:
        name = str(PurePosixPath(image.path).with_suffix(""))
        depth = depths.get(name + DEPTH_SUFFIX)
        problem = f"no depth map {name}{DEPTH_SUFFIX}" if depth is None else depth.problem
        if name in found:
            name, problem = image.path, f"another picture is called {name}"
        found[name] = replace(image, problem=image.problem or problem)
        maps.append(depth or FileEntry(""))
    rows = tabulate(list(found.values()), list(found), labels, unlabeled)
    for key in ("path", "size", "stamp"):
        field = LISTING.field(key).with_name(f"depth_{key}")
        rows = rows.append_column(field, pa.array([getattr(depth, key) for depth in maps], field.type))
    write_listing(folder, rows, {"source": "rgbd", "class_names": class_names})


class RgbdSource:
    """Reads listed images with their depth maps."""

    name = "rgbd"

    def __init__(self, shards: ShardFolder, path: Path) -> None:
        self._shards, self._tree = shards, open_tree(path)
        self.class_names: list[str] = shards.meta["class_names"]

    def entries(self) -> pa.Table:
        return read_listing(self._shards)

    def read(self, entries: pa.Table) -> Iterator[RawPicture]:
        for row in entries.to_pylist():
            try:
                if row["problem"]:
                    raise BadPicture(row["problem"])
                rgb = decode_picture(read_listed(self._tree, row["path"], row["size"], row["stamp"]))
                depth = decode_depth(read_listed(self._tree, row["depth_path"], row["depth_size"], row["depth_stamp"]))
                yield RawPicture(row["id"], row["label"], rgb, _fit(depth, *rgb.shape[:2]))
            except BadPicture as reason:
                yield RawPicture(row["id"], row["label"], error=str(reason))


def _fit(depth: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """`depth` resized to the image, whose aspect ratio it must have: estimators work at their own resolutions."""
    rows, columns = depth.shape
    if (rows, columns) == (height, width):
        return depth
    if abs(rows * width - columns * height) > max(rows, columns, height, width):  # more than a pixel of rounding
        raise BadPicture(f"the depth map has {columns}x{rows} pixels, the picture {width}x{height}")
    return cv2.resize(depth, (width, height), interpolation=cv2.INTER_AREA if rows > height else cv2.INTER_LINEAR)


def _labels(tree: Tree, where: Path, paths: list[str]) -> tuple[list[str], list[int | None], str]:
    """Class names, the label of each path or None, and the reason for None."""
    files = [file for file in tree.files() if PurePosixPath(file.path).name == LABELS and not file.problem]
    if not files:
        return *first_folders(paths), OUTSIDE
    if len(files) > 1:
        raise UserError(f"dataset.path: {where} holds more than one {LABELS}: {files[0].path} and {files[1].path}.")
    place = PurePosixPath(files[0].path)
    try:
        pairs = json.loads(tree.load(files[0].path))["labels"]
        labels = None if pairs is None else {str(place.parent / name): _class_number(value) for name, value in pairs}
    except (BadPicture, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(
            f'{where}: {place} is not of the form {{"labels": [["name.jpg", 3], ...]}} with class numbers from 0.'
        ) from None
    if not labels:
        return [SINGLE_CLASS], [0] * len(paths), OUTSIDE
    return [str(label) for label in range(max(labels.values()) + 1)], [labels.get(p) for p in paths], f"not in {place}"


def _class_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_CLASSES:
        raise ValueError(value)
    return value


SOURCE = SourceKind(
    download=lambda config, path, folder: download(path, folder),
    open=lambda shards, path, raw: RgbdSource(shards, path),
    needs_path=True,
    depth="sidecar",
)
