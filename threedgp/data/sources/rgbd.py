"""Source `rgbd`: `<id>.jpg` with `<id>_depth.png` beside it, or `images/<id>.jpg` with `depth/<id>.png`.

They lie in a folder, zip or tar.

An optional `dataset.json` holds labels: `{"labels": [["name.jpg", 3], ...]}`, with names relative to its own folder.
Without it, the first folder is the class. This is the layout of the data that the authors of 3DGP released. Its depth
maps are scaled from 0, the nearest, to 65535: a map of a sensor, in which 0 is unknown, must be filled first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    count_pictures,
    first_folders,
    list_pictures,
    tabulate,
    unique_labels,
    write_listing,
)
from threedgp.data.source import Contents, SourceKind
from threedgp.runtime.errors import UserError

DEPTH_SUFFIX = "_depth.png"
IMAGES, DEPTH = "images/", "depth/"
LABELS = "dataset.json"
MAX_LABEL_BYTES = 1000
"""Size of `LABELS` per image; a zip may hold gigabytes of zeros in a few megabytes."""


def download(path: Path, folder: Path) -> None:
    """List the images at `path` and their depth maps in `folder`; ids are relative paths without the suffix."""
    tree = open_tree(path)
    images, depths = pair(list_pictures(tree, path))
    if not images:
        raise UserError(f"dataset.path: {path} holds depth maps (*{DEPTH_SUFFIX}) but no images beside them.")
    class_names, labels, unlabeled = label_images(tree, path, images)
    found: dict[str, FileEntry] = {}
    maps = []
    for image_path, image in images.items():
        name = str(PurePosixPath(image_path).with_suffix(""))
        depth = depths.get(name)
        problem = f"no depth map of {name}" if depth is None else depth.problem
        if name in found:
            name, problem = image_path, f"another image is called {name}"
        found[name] = replace(image, problem=image.problem or problem)
        maps.append(depth or FileEntry(""))
    rows = tabulate(list(found.values()), list(found), labels, unlabeled)
    for key in ("path", "size", "stamp"):
        field = LISTING.field(key).with_name(f"depth_{key}")
        rows = rows.append_column(field, pa.array([getattr(depth, key) for depth in maps], field.type))
    write_listing(folder, rows, {"source": "rgbd", "class_names": class_names})


def pair(files: Sequence[FileEntry]) -> tuple[dict[str, FileEntry], dict[str, FileEntry]]:
    """Images by their paths, and depth maps by the paths of their images without suffix.

    With a folder `depth` beside the folder `images`, paths are relative to these.
    """
    maps = {file.path[: -len(DEPTH_SUFFIX)]: file for file in files if file.path.lower().endswith(DEPTH_SUFFIX)}
    if not maps and all(file.path.startswith((IMAGES, DEPTH)) for file in files):
        maps = {file.path[len(DEPTH) :].rpartition(".")[0]: file for file in files if file.path.startswith(DEPTH)}
        return {file.path[len(IMAGES) :]: file for file in files if file.path.startswith(IMAGES)}, maps
    return {file.path: file for file in files if not file.path.lower().endswith(DEPTH_SUFFIX)}, maps


def label_images(tree: Tree, where: Path, images: Mapping[str, FileEntry]) -> tuple[list[str], list[int | None], str]:
    """Class names, the label of each image of `pair` or None, and the reason for None.

    Raises:
        UserError: `LABELS` cannot be used; `where` is the place of `tree`.
    """
    paths = [file.path for file in images.values()]
    files = [file for file in tree.files() if PurePosixPath(file.path).name == LABELS and not file.problem]
    if not files:
        return *first_folders(list(images.values()), list(images)), OUTSIDE
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


def _contents(path: Path, subset: str | None) -> Contents | None:
    """Half of the files are depth maps."""
    found = count_pictures(path)
    return found and Contents(found.num_bytes, found.num_images // 2)


SOURCE = SourceKind(
    download=lambda config, path, folder: download(path, folder),
    open=lambda shards, path, raw: ListedSource("rgbd", shards, TreeStore(path), TreeStore(path, "depth_")),
    needs_path=True,
    depth="sidecar",
    contents=_contents,
)
