"""Samples of any system: a folder of pictures, or the NPZ file of ADM's evaluator, with labels and depth if there are.

Pictures go through the preparation of the real set: centre crop and Lanczos to its resolution; those that have it
already stay as they are.
"""

from __future__ import annotations

import json
import lzma
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from threedgp.data.archives.pictures import MAX_FILE_BYTES, SUFFIXES, BadPicture, decode_depth, decode_picture
from threedgp.data.prepare import LARGEST_ENLARGEMENT, square, square_depth
from threedgp.data.source import RawPicture
from threedgp.evaluation.sample_archive import LABELS, PICTURES
from threedgp.metrics.streams import Stream, chunks
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError
from threedgp.runtime.processes import disk_is_full

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
    if images.suffix == ".npz" and not images.is_dir():
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
        parts_of_depth = [partial(_read_maps, found[start:end], files[start:end], resolution) for start, end in pieces]
        maps = Stream(len(found), parts_of_depth)
    return Samples(Stream(len(files), parts), _read_labels(labels, images, files) if labels else None, maps)


def _read_pictures(files: list[Path], resolution: int) -> np.ndarray:
    pictures = []
    for file in files:
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise BadPicture("the file is too large")
            raw = RawPicture(file.name, 0, decode_picture(file.read_bytes()))
            height, width = raw.rgb.shape[:2]
            if min(height, width) * LARGEST_ENLARGEMENT < resolution:  # stage `prepare` leaves such real ones out, too
                raise BadPicture(f"{width}x{height} pixels are too few for {resolution}x{resolution}")
        except (BadPicture, OSError) as error:
            raise UserError(f"{file}: cannot be used ({error}); remove it or put a good one in its place.") from None
        pictures.append(square(raw, resolution)[0])
    return np.stack(pictures).transpose(0, 3, 1, 2)


def _map_of(picture: Path, depth: Path) -> Path:
    for end in MAPS:
        if (file := depth / picture.with_name(f"{picture.stem}{end}")).is_file():
            return file
    raise UserError(f"{depth}: has no depth for {picture}; it must be called {picture.stem}_depth.png or .npy.")


def _read_maps(files: list[Path], pictures: list[Path], resolution: int) -> np.ndarray:
    maps = []
    for file, picture in zip(files, pictures, strict=True):
        try:
            depth = decode_depth(file.read_bytes()) if file.suffix == ".png" else _read_array(file)
            if depth.dtype.kind not in "fiu" or depth.ndim != 2 or not depth.size:
                raise BadPicture("not a map [H, W] of numbers")
            with np.errstate(over="ignore"):  # becomes infinity, and is refused as such
                depth = np.asarray(depth, np.float32)
            if not np.isfinite(depth).all():
                raise BadPicture("not finite everywhere")
            _require_same_shape(depth, picture)
        except (BadPicture, OSError) as error:
            raise UserError(f"{file}: is no depth map ({error}); 16-bit PNG and arrays [H, W] are.") from None
        maps.append(square_depth(depth, resolution))
    return np.stack(maps)[:, None]


def _read_array(file: Path) -> np.ndarray:
    try:
        # Unlike np.load it takes arrays alone: no zip, no pickle. Mapped, for a header may promise any size.
        return np.squeeze(np.lib.format.open_memmap(file, mode="r"))
    except OSError:
        raise
    except Exception:  # a broken header raises whatever Python's own parser does
        raise BadPicture("not an array of numbers") from None


def _require_same_shape(depth: np.ndarray, picture: Path) -> None:
    """A map of another shape shows another part of the scene. Its size is free; which side is longer is up to EXIF."""
    with Image.open(picture) as header:
        short, long = sorted(header.size)
    least, most = sorted(depth.shape)
    if abs(short * most - long * least) > max(long, most):  # more than a rounded-off pixel
        rows, columns = depth.shape
        raise BadPicture(f"{columns}x{rows} pixels do not fit the picture's {header.width}x{header.height}")


def _read_labels(labels: Path, images: Path, files: list[Path]) -> np.ndarray:
    try:
        found = dict(json.loads(labels.read_text(encoding="utf-8"))["labels"])
        if not all(type(label) is int for label in found.values()):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f'{labels}: is not of the form {{"labels": [["name.jpg", 3], ...]}}.') from None
    names = [file.relative_to(images).as_posix() for file in files]
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{labels}: has no label for {missing[0]}; give every picture one.")
    return np.array([found[name] for name in names])


def _open_archive(file: Path, resolution: int, scratch: Path) -> Samples:
    """An archive cannot be read from the middle, so its pictures are unpacked first."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file; name a folder of pictures, or a .npz file.")
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
            if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8 or not pictures.size:
                raise ValueError
            if f"{LABELS}.npy" in archive.namelist():
                if archive.getinfo(f"{LABELS}.npy").file_size > MOST_LABEL_BYTES * len(pictures):
                    raise ValueError
                with archive.open(f"{LABELS}.npy") as member:
                    labels = np.lib.format.read_array(member, allow_pickle=False).reshape(len(pictures))
                if labels.dtype.kind not in "iu":
                    raise ValueError
    except OSError as error:
        if disk_is_full(error):
            raise
        raise UserError(f"{file}: cannot be read ({error.strerror or error}).") from None
    # What zipfile raises: RuntimeError for a password, its subclass NotImplementedError for a foreign compression.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, KeyError, ValueError, EOFError, RuntimeError):
        raise UserError(
            f"{file}: is no archive of samples; {PICTURES} must hold uint8 [N, H, W, 3], and {LABELS}, if it is there, "
            "N whole numbers, the classes."
        ) from None

    def part(start: int, end: int) -> np.ndarray:
        raw = (RawPicture(str(index), 0, np.array(pictures[index])) for index in range(start, end))
        return np.stack([square(picture, resolution)[0] for picture in raw]).transpose(0, 3, 1, 2)

    parts = [partial(part, *piece) for piece in chunks(len(pictures), BATCH)]
    return Samples(Stream(len(pictures), parts), labels, None)
