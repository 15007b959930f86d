"""Samples of any system: a folder of pictures, or the NPZ file of ADM's evaluator, with labels and depth if there are.

Pictures go through the preparation of the real set: centre crop and Lanczos to its resolution; those that have it
already stay as they are.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from threedgp.atomic import atomic_path, require_free
from threedgp.data.prepare import resize_depth, square, square_depth
from threedgp.data.sources.base import RawPicture
from threedgp.data.sources.pictures import LARGEST_FILE, SUFFIXES, BadPicture, decode_depth, decode_picture
from threedgp.errors import UserError
from threedgp.metrics.sample_archive import LABELS, PICTURES
from threedgp.metrics.streams import Stream, chunks

BATCH = 256
"""Pictures of one part."""
MOST_LABEL_BYTES = 256
"""For each picture; a file's header included."""
MAPS = ("_depth.png", "_depth.npy", ".png", ".npy")
"""How the file of a depth map may end, after the path of its picture without suffix; the first that is there counts."""


@dataclass(frozen=True)
class Samples:
    """Pictures, uint8 `[n, 3, R, R]`; labels `[N]`; depth, float32 `[n, 1, R, R]`."""

    pictures: Stream
    labels: np.ndarray | None
    depth: Stream | None


def open_samples(images: Path, depth: Path | None, labels: Path | None, resolution: int, scratch: Path) -> Samples:
    """Find the samples; pictures are read when they are wanted.

    Args:
        images: a folder, of which all pictures at any depth count, sorted by path; or a .npz file with `arr_0` uint8
            `[N, H, W, 3]` and perhaps `arr_1`, labels.
        depth: folder of depth maps: for ``a/b.jpg`` one of ``a/b_depth.png``, ``a/b_depth.npy``, ``a/b.png``,
            ``a/b.npy``; 16-bit PNG or arrays, larger = farther.
        labels: JSON ``{"labels": [["a/b.jpg", 3], ...]}``, as in a `dataset.json`.
        resolution: R, of the real set.
        scratch: folder for what an archive holds.

    Raises:
        UserError: a file or folder is missing or is not what it should be.
    """
    if images.suffix == ".npz":
        if depth or labels:
            raise UserError(f"--depth, --labels: go with a folder of pictures, and {images} is an archive.")
        return _open_archive(images, resolution, scratch)
    if not images.is_dir():
        raise UserError(f"{images}: there is no such folder; name the one that holds the pictures, or a .npz file.")
    files = sorted(file for file in images.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if depth in (None, images):
        files = [file for file in files if not file.stem.endswith("_depth")]
    if not files:
        raise UserError(f"{images}: holds no picture; name the folder that does.")
    parts = [partial(_read_pictures, files[start:end], resolution) for start, end in chunks(len(files), BATCH)]
    maps = None
    if depth:
        found = [_map_of(file.relative_to(images), depth) for file in files]
        pieces = chunks(len(found), BATCH)
        maps = Stream(len(found), [partial(_read_maps, found[start:end], resolution) for start, end in pieces])
    return Samples(Stream(len(files), parts), _read_labels(labels, images, files) if labels else None, maps)


def _read_pictures(files: list[Path], resolution: int) -> np.ndarray:
    pictures = []
    for file in files:
        try:
            if file.stat().st_size > LARGEST_FILE:
                raise BadPicture("the file is too large")
            raw = RawPicture(file.name, 0, decode_picture(file.read_bytes()))
        except (BadPicture, OSError) as error:
            raise UserError(f"{file}: cannot be used ({error}); remove it or put a good one in its place.") from None
        pictures.append(square(raw, resolution)[0])
    return np.stack(pictures).transpose(0, 3, 1, 2)


def _map_of(picture: Path, depth: Path) -> Path:
    for end in MAPS:
        if (file := depth / picture.with_name(f"{picture.stem}{end}")).is_file():
            return file
    raise UserError(f"{depth}: has no depth for {picture}; it must be called {picture.stem}_depth.png or .npy.")


def _read_maps(files: list[Path], resolution: int) -> np.ndarray:
    maps = []
    for file in files:
        try:
            if file.suffix == ".png":
                depth = decode_depth(file.read_bytes())
            else:
                depth = np.squeeze(np.load(file, allow_pickle=False)).astype(np.float32)
            if depth.ndim != 2 or not np.isfinite(depth).all():
                raise BadPicture("not a finite map [H, W]")
        except (BadPicture, OSError, ValueError, EOFError) as error:
            raise UserError(f"{file}: is no depth map ({error}); 16-bit PNG and arrays [H, W] are.") from None
        maps.append(
            square_depth(depth, resolution) if depth.shape[0] != depth.shape[1] else resize_depth(depth, resolution)
        )
    return np.stack(maps)[:, None]


def _read_labels(labels: Path, images: Path, files: list[Path]) -> np.ndarray:
    try:
        found = {str(name): int(label) for name, label in json.loads(labels.read_text(encoding="utf-8"))["labels"]}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f'{labels}: is not of the form {{"labels": [["name.jpg", 3], ...]}}.') from None
    names = [file.relative_to(images).as_posix() for file in files]
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{labels}: has no label for {missing[0]}; give every picture one.")
    return np.array([found[name] for name in names])


def _open_archive(file: Path, resolution: int, scratch: Path) -> Samples:
    """An archive cannot be read from the middle, so its pictures are unpacked first."""
    unpacked = scratch / "pictures.npy"
    labels = None
    try:
        with zipfile.ZipFile(file) as archive:
            if not unpacked.is_file():
                require_free(scratch, archive.getinfo(f"{PICTURES}.npy").file_size)
                with (
                    archive.open(f"{PICTURES}.npy") as member,
                    atomic_path(unpacked) as temporary,
                    temporary.open("wb") as target,
                ):
                    shutil.copyfileobj(member, target)
            pictures = np.load(unpacked, mmap_mode="r", allow_pickle=False)
            if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or not len(pictures):
                raise ValueError
            if f"{LABELS}.npy" in archive.namelist():
                if archive.getinfo(f"{LABELS}.npy").file_size > MOST_LABEL_BYTES * len(pictures):
                    raise ValueError
                with archive.open(f"{LABELS}.npy") as member:
                    labels = (
                        np.lib.format.read_array(member, allow_pickle=False).astype(np.int64).reshape(len(pictures))
                    )
    except (FileNotFoundError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError):
        raise UserError(
            f"{file}: is no archive of samples; {PICTURES} must hold uint8 [N, H, W, 3], and {LABELS}, if it is there, "
            "N labels."
        ) from None

    def part(start: int, end: int) -> np.ndarray:
        raw = (RawPicture(str(index), 0, np.array(pictures[index])) for index in range(start, end))
        return np.stack([square(picture, resolution)[0] for picture in raw]).transpose(0, 3, 1, 2)

    parts = [partial(part, *piece) for piece in chunks(len(pictures), BATCH)]
    return Samples(Stream(len(pictures), parts), labels, None)
