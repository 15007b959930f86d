"""Source `imagenet`: the training images of ILSVRC 2012 (Russakovsky et al. 2015), in any layout at `dataset.path`.

Nothing is copied or unpacked: stage `download` lists where each image is. Classes are numbered in the order of their
WordNet ids, which is the order of the labels on the Hugging Face hub.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa

from threedgp.config import Config, MachineConfig
from threedgp.data.archives import parquet_files
from threedgp.data.archives.files import Folder, TreeStore
from threedgp.data.archives.listing import LISTING, ListedSource, list_parts, list_pictures, tabulate
from threedgp.data.archives.pictures import SUFFIXES, BadPicture, check_size
from threedgp.data.archives.references import Reference, check_unchanged, refer
from threedgp.data.archives.tars import Member, tar_members
from threedgp.data.shards import ShardFolder, read_manifest
from threedgp.data.source import Contents, Published, SourceKind
from threedgp.fetch.hub import HUB
from threedgp.fetch.remote import Remote, mismatch
from threedgp.runtime.atomic import write_json
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import say

WNID = re.compile(r"n\d{8}")
"""WordNet id, the name of a class."""
NUM_CLASSES, NUM_IMAGES = 1000, 1_281_167

REPO = "ILSVRC/imagenet-1k"
TAR_NAME = "ILSVRC2012_img_train.tar"
TAR_BYTES = 147_897_477_120
TAR_MD5 = "1d675b47d978889d74fa0da5fadfb00e"
INSTRUCTIONS = (
    f"download {TAR_NAME} from https://image-net.org/download-images.php (free for research, needs an account; "
    f"{TAR_BYTES} bytes, MD5 {TAR_MD5}) and set dataset.path to it, or to a folder that holds it, "
    "train/<wnid>/*.JPEG, Kaggle's ILSVRC/Data/CLS-LOC/train/<wnid>/ or the Parquet files of "
    f"{REPO} on the Hugging Face hub (data/train-*.parquet), or set it to null to download those with your HF_TOKEN"
)

MAX_COUNTED_TAR = 2**31
"""Bytes; the images in a larger tar are not counted before stage `download` lists them, which takes a minute."""

PARQUET = {"source": "imagenet", "layout": "parquet"}
"""About the listing of Parquet files."""

TREE_ROOTS = ("", "train", "CLS-LOC/train", "Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train")
MEMBERS = pa.schema(
    [
        ("id", pa.string()),  # <wnid>/<file name>
        ("label", pa.int32()),
        ("problem", pa.string()),  # why the image must be left out, or null
        ("offset", pa.int64()),  # in the tar
        ("size", pa.int64()),  # bytes
    ]
)


def download(config: Config, path: Path | None, folder: Path) -> None:
    """List the images of ImageNet at `path` in `folder`; without a path they are downloaded there from the hub."""
    machine = config.machine
    if path is None:
        root, files = parquet_files.download_parquet(REPO, folder, machine.mirror)
        parquet_files.list_labelled(root, files, folder, PARQUET, machine.workers)
    elif not path.exists():
        raise UserError(f"dataset.path: {path} does not exist; {INSTRUCTIONS}.")
    elif (tar := _tar_at(path)).is_file():
        _list_tar(tar, folder, machine)
    elif names := parquet_files.find_parquet(path):
        parquet_files.list_labelled(path, refer(path, names), folder, PARQUET, machine.workers)
    else:
        _list_tree(path, folder, machine.workers)
    manifest = read_manifest(folder)
    num_images, num_classes = manifest.rows, len(manifest.meta["class_names"])
    say(f"download: {num_images:,} images of {num_classes} classes")
    if (num_images, num_classes) != (NUM_IMAGES, NUM_CLASSES):
        say(f"download: this is a part of ImageNet, which has {NUM_IMAGES:,} images of {NUM_CLASSES} classes")


def open_imagenet(shards: ShardFolder, path: Path | None, raw: Path) -> ListedSource:
    """Open what `download` listed in `raw`."""
    layout = shards.meta["layout"]
    if layout == "parquet":
        store = parquet_files.open_listed(shards, path, raw)
    elif layout == "tar":
        tar = _tar_at(path)
        check_unchanged(tar.parent, shards.meta["files"])
        store = TarStore(tar)
    else:
        store = TreeStore(path / shards.meta["root"])
    return ListedSource("imagenet", shards, store)


def contents(path: Path, subset: str | None) -> Contents | None:
    """Size and number of images of the tar or the Parquet files at `path`; None for a tree, which is not walked."""
    tar = _tar_at(path)
    if not tar.is_file():
        return parquet_files.contents(path)
    size = tar.stat().st_size
    if size == TAR_BYTES:
        return Contents(size, NUM_IMAGES)
    if size > MAX_COUNTED_TAR:
        return Contents(size)
    return Contents(size, sum(_class_rows(tar, wnid, member, 0).num_rows for wnid, member in _class_tars(tar)))


# ---- The official tar, which holds one tar per class -----------------------------------------------------------------


class TarStore:
    """Images in a tar, found by the columns `offset` and `size`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def load(self, entries: pa.Table) -> Iterator[bytes | BadPicture]:
        for offset, size in zip(entries["offset"].to_pylist(), entries["size"].to_pylist(), strict=True):
            # By position, because threads share the descriptor.
            yield check_size(size) or os.pread(self._file.fileno(), size, offset)


def _tar_at(path: Path) -> Path:
    """The tar that `path` is, or that would be in the folder `path`."""
    return path / TAR_NAME if path.is_dir() else path


def _list_tar(path: Path, folder: Path, machine: MachineConfig) -> None:
    files, classes = refer(path.parent, [path.name]), _class_tars(path)

    meta = {"source": "imagenet", "layout": "tar", "files": files, "class_names": [wnid for wnid, _ in classes]}

    def list_class(label: int) -> pa.Table:
        return _class_rows(path, *classes[label], label)

    writer = list_parts(folder, len(classes), list_class, MEMBERS, meta, unit="classes", workers=machine.workers)
    if machine.verify_md5 and files[0]["size"] == TAR_BYTES:
        _verify_md5(path, folder.with_name("verified.json"), files[0])
    writer.finish()


def _class_tars(path: Path) -> list[tuple[str, Member]]:
    """The class tars in the outer tar, sorted by class."""
    found: dict[str, Member] = {}
    for member in tar_members(path):
        name = PurePosixPath(member.name)
        if WNID.fullmatch(name.stem) and name.suffix == ".tar" and member.problem is None:
            if name.stem in found:
                raise UserError(f"{path}: holds class {name.stem} twice; {INSTRUCTIONS}.")
            found[name.stem] = member
    if not found:
        raise UserError(f"{path}: holds no class tars (n01440764.tar, ...); {INSTRUCTIONS}.")
    return sorted(found.items())


def _class_rows(path: Path, wnid: str, tar: Member, label: int) -> pa.Table:
    """Rows of one class, sorted by id. Of files with the same name the last counts, as in unpacking."""
    rows = {}
    for member in tar_members(path, tar):
        if member.problem or PurePosixPath(member.name).suffix.lower() in SUFFIXES:
            name = f"{wnid}/{member.name.removeprefix('./')}"
            rows[name] = {**asdict(member), "id": name, "label": label}
    return pa.Table.from_pylist(list(rows.values()), MEMBERS).sort_by("id")


def _verify_md5(path: Path, record: Path, file: Reference) -> None:
    """Compare the checksum of the official tar, once: `record` says for which file that was done."""
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) == file:
        return
    say(f"download: verifying the MD5 of {path}, which takes minutes")
    if problem := mismatch(Remote(path.name, str(path), checksum=f"md5:{TAR_MD5}"), path):
        raise UserError(f"{path}: {problem}; download it again, or set machine.verify_md5 to false.")
    write_json(record, file)


# ---- Trees of class folders ------------------------------------------------------------------------------------------


def _list_tree(path: Path, folder: Path, workers: int) -> None:
    root, classes = next(_class_folders(path), ("", []))
    if not classes:
        raise UserError(f"dataset.path: {path} holds no class tars, class folders or Parquet files; {INSTRUCTIONS}.")

    def list_class(label: int) -> pa.Table:
        wnid = classes[label]
        files = list_pictures(Folder(path / root / wnid), path / root / wnid)
        files = [replace(file, path=f"{wnid}/{file.path}") for file in files]
        return tabulate(files, [file.path for file in files], [label] * len(files))

    meta = {"source": "imagenet", "layout": "tree", "root": root, "class_names": classes}
    list_parts(folder, len(classes), list_class, LISTING, meta, unit="classes", workers=workers).finish()


def _class_folders(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders that hold class folders, and the names of these."""
    for root in TREE_ROOTS:
        if (path / root).is_dir():
            entries = os.scandir(path / root)
            classes = sorted(entry.name for entry in entries if WNID.fullmatch(entry.name) and entry.is_dir())
            if classes:
                yield root, classes


SOURCE = SourceKind(
    download=download,
    open=open_imagenet,
    published={None: Published(f"{HUB}/datasets/{REPO}", NUM_IMAGES, NUM_CLASSES, gated=True)},
    instructions=lambda subset: INSTRUCTIONS,
    contents=contents,
    download_bytes=lambda config: None if config.dataset.path is None else (0, 0),
)
