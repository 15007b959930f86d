"""Source `rgbd`: `<id>.jpg` with `<id>_depth.png` beside it, in a folder or a zip.

An optional `dataset.json` holds labels: `{"labels": [["name.jpg", 3], ...]}`, with names relative to its own folder.
Without it, the first folder is the class. This is the layout of the data that the authors of 3DGP released. Its depth
maps are scaled from 0, the nearest, to 65535: a map of a sensor, in which 0 is unknown, must be filled first.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pyarrow as pa

from threedgp.config.fields import MAX_CLASSES
from threedgp.data.archives.files import FileEntry, Tree, TreeStore, open_tree
from threedgp.data.archives.listing import (
    LISTING,
    OUTSIDE,
    SINGLE_CLASS,
    ListedSource,
    first_folders,
    list_pictures,
    tabulate,
    unique_labels,
    write_listing,
)
from threedgp.data.source import SourceKind
from threedgp.runtime.errors import UserError

DEPTH_SUFFIX = "_depth.png"
LABELS = "dataset.json"
MAX_LABEL_BYTES = 1000
"""Size of `LABELS` per image; a zip may hold gigabytes of zeros in a few megabytes."""


def download(path: Path, folder: Path) -> None:
    """List the images at `path` and their depth maps in `folder`; ids are relative paths without the suffix."""
    tree = open_tree(path)
    files = list_pictures(tree, path)
    depths = {file.path[: -len(DEPTH_SUFFIX)]: file for file in files if file.path.lower().endswith(DEPTH_SUFFIX)}
    images = [file for file in files if not file.path.lower().endswith(DEPTH_SUFFIX)]
    if not images:
        raise UserError(f"dataset.path: {path} holds depth maps (*{DEPTH_SUFFIX}) but no images beside them.")
    class_names, labels, unlabeled = _labels(tree, path, [file.path for file in images])
    found: dict[str, FileEntry] = {}
    maps = []
    for image in images:
        name = str(PurePosixPath(image.path).with_suffix(""))
        depth = depths.get(name)
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


def _labels(tree: Tree, where: Path, paths: list[str]) -> tuple[list[str], list[int | None], str]:
    """Class names, the label of each path or None, and the reason for None."""
    files = [file for file in tree.files() if PurePosixPath(file.path).name == LABELS and not file.problem]
    if not files:
        return *first_folders(paths), OUTSIDE
    if len(files) > 1:
        raise UserError(f"dataset.path: {where} holds more than one {LABELS}: {files[0].path} and {files[1].path}.")
    place = PurePosixPath(files[0].path)
    if files[0].size > MAX_LABEL_BYTES * (len(paths) + MAX_CLASSES):
        raise UserError(f"{where}: {place} has {files[0].size:,} bytes, too many for {len(paths):,} images.")
    try:
        pairs = json.loads(tree.load(files[0].path))["labels"]
        found = {} if pairs is None else unique_labels(pairs, f"{where}: {place}")
        labels = {str(place.parent / name): _class_number(value) for name, value in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # TypeError: the file cannot be read
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
    open=lambda shards, path, raw: ListedSource("rgbd", shards, TreeStore(path), TreeStore(path, "depth_")),
    needs_path=True,
    depth="sidecar",
)
