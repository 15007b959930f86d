"""Samples of any system: a folder of images with optional labels and depth, or the NPZ file of ADM's evaluator.

The evaluator (Dhariwal and Nichol 2021, arXiv 2105.05233) reads images from `arr_0` and classes from `arr_1`. Images
are prepared like the real set: center crop and Lanczos filter to its resolution; those of the right size are not
changed. They are shuffled: files are often sorted by class, and some metrics compare the first samples only.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from threedgp.data.archives.listing import unique_labels
from threedgp.data.archives.pictures import (
    DEPTH_SUFFIXES,
    SUFFIXES,
    BadPicture,
    check_size,
    decode_picture,
    read_depth_file,
)
from threedgp.data.images import same_aspect
from threedgp.data.prepare import square, square_depth, too_small
from threedgp.data.source import RawPicture
from threedgp.evaluation.streams import Stream, chunks
from threedgp.runtime.atomic import atomic_path, require_free
from threedgp.runtime.errors import UserError, disk_is_full

BATCH = 256
"""Images per batch."""
IMAGES, LABELS = "arr_0", "arr_1"
"""Members of an archive."""
MAX_HEADER = 2**16
"""Bytes of the header of a member."""
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""A constant date, so that equal samples give equal bytes."""


@dataclass(frozen=True)
class Samples:
    """Images, uint8 `[n, 3, R, R]`; labels `[N]`; depth, float32 `[n, 1, R, R]`."""

    images: Stream
    labels: np.ndarray | None
    depth: Stream | None


Order = Callable[[int], Sequence[int] | np.ndarray]
"""Returns the numbers below its argument in some order."""


def random_order(count: int) -> np.ndarray:
    """The numbers below `count`, always in the same random order."""
    return np.random.default_rng(0).permutation(count)


def open_samples(
    images: Path,
    depth: Path | None,
    labels: Path | None,
    resolution: int,
    scratch: Path,
    order: Order = random_order,
) -> Samples:
    """Find samples. Images are read when the streams are iterated.

    Args:
        images: a folder, of which all images in all subfolders are used; or a .npz file with `arr_0` uint8
            `[N, H, W, 3]` and optionally `arr_1`, labels.
        depth: folder of depth maps: for ``a/b.jpg`` one of ``a/b_depth.png``, ``a/b_depth.npy``, ``a/b.png``,
            ``a/b.npy``; 16-bit PNG or arrays, larger = farther.
        labels: JSON ``{"labels": [["a/b.jpg", 3], ...]}``, as in a `dataset.json`.
        resolution: R of the real set.
        scratch: folder for the unpacked content of an archive.
        order: given their number, the order of the images; `range` = by path, or as in the archive.

    Raises:
        UserError: a file or folder is missing or invalid.
    """
    if images.suffix == ".npz" and not images.is_dir():
        if depth or labels:
            raise UserError(f"--depth, --labels: can be given for a folder of images only, and {images} is an archive.")
        return _open_archive(images, resolution, scratch, order)
    if not images.is_dir():
        raise UserError(f"{images}: there is no such folder; name a folder of images or a .npz file.")
    files = sorted(file for file in images.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if depth in (None, images):
        files = [file for file in files if not file.stem.lower().endswith("_depth")]
    if not files:
        raise UserError(f"{images}: there are no images in this folder.")
    files = [files[index] for index in order(len(files))]
    parts = [partial(read_images, files[start:end], resolution) for start, end in chunks(len(files), BATCH)]
    maps = None
    if depth:
        found = [_depth_file(file.relative_to(images), depth) for file in files]
        pieces = chunks(len(found), BATCH)
        depth_parts = [partial(read_depth, found[start:end], files[start:end], resolution) for start, end in pieces]
        maps = Stream(len(found), depth_parts)
    return Samples(Stream(len(files), parts), _read_labels(labels, images, files) if labels else None, maps)


def read_images(files: list[Path], resolution: int) -> np.ndarray:
    """Center crops of image files, uint8 `[n, 3, R, R]`. Raises UserError that names the file that cannot be used."""
    images = []
    for file in files:
        try:
            if error := check_size(file.stat().st_size):
                raise error
            raw = RawPicture(file.name, 0, decode_picture(file.read_bytes()))
            if reason := too_small(raw, resolution):  # stage `prepare` rejects such real images, too
                raise BadPicture(reason)
        except (BadPicture, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{file}: cannot be used ({reason}); remove or replace it.") from None
        images.append(square(raw, resolution)[0])
    return np.stack(images).transpose(0, 3, 1, 2)


def _depth_file(image: Path, depth: Path) -> Path:
    for suffix in DEPTH_SUFFIXES:
        if (file := depth / image.with_name(f"{image.stem}{suffix}")).is_file():
            return file
    raise UserError(f"{depth}: has no depth for {image}; the file must be called {image.stem}_depth.png or .npy.")


def read_depth(files: list[Path], images: list[Path], resolution: int) -> np.ndarray:
    """Depth maps of the center crops of `images`, float32 `[n, 1, R, R]`. Raises UserError that names the file that
    cannot be used."""
    maps = []
    for file, image in zip(files, images, strict=True):
        try:
            depth = read_depth_file(file)
            if not np.isfinite(depth).all():
                raise BadPicture("not finite everywhere")
            _require_same_shape(depth, image)
        except (BadPicture, OSError) as error:
            raise UserError(
                f"{file}: is not a depth map ({error}); a 16-bit PNG or an array [H, W] is needed."
            ) from None
        maps.append(square_depth(depth, resolution))
    return np.stack(maps)[:, None]


def _require_same_shape(depth: np.ndarray, image: Path) -> None:
    """Reject maps of other proportions, which show another part of the scene. EXIF may exchange the sides."""
    with Image.open(image) as header:
        if not same_aspect(sorted(depth.shape), sorted(header.size)):
            rows, columns = depth.shape
            raise BadPicture(f"{columns}x{rows} pixels do not fit the image's {header.width}x{header.height}")


def _read_labels(labels: Path, images: Path, files: list[Path]) -> np.ndarray:
    try:
        found = unique_labels(json.loads(labels.read_text(encoding="utf-8"))["labels"], str(labels))
        if not all(type(label) is int for label in found.values()):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f'{labels}: is not of the form {{"labels": [["name.jpg", 3], ...]}}.') from None
    names = [file.relative_to(images).as_posix() for file in files]
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{labels}: has no label for {min(missing)}; give every image one.")
    return np.array([found[name] for name in names])


def _open_archive(file: Path, resolution: int, scratch: Path, order: Order) -> Samples:
    """Open an archive. Its images are unpacked first, because a compressed member has no random access."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file; name a folder of images or a .npz file.")
    unpacked = scratch / "images.npy"
    try:
        with np.errstate(all="ignore"), np.load(file) as archive:  # shapes that overflow are errors below
            if not unpacked.is_file():
                require_free(scratch, archive.zip.getinfo(f"{IMAGES}.npy").file_size)
                with (
                    archive.zip.open(f"{IMAGES}.npy") as member,
                    atomic_path(unpacked) as temporary,
                    temporary.open("wb") as target,
                ):
                    shutil.copyfileobj(member, target)
            images = np.load(unpacked, mmap_mode="r")
            if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not images.size:
                raise ValueError
            label_bytes = archive.zip.getinfo(f"{LABELS}.npy").file_size if LABELS in archive else 0
            if images[0].size > 3 * Image.MAX_IMAGE_PIXELS or label_bytes > 8 * len(images) + MAX_HEADER:
                raise ValueError
            labels = archive[LABELS].reshape(len(images)) if LABELS in archive else None
            if labels is not None and labels.dtype.kind not in "iu":
                raise ValueError
            if reason := too_small(RawPicture("0", 0, images[0]), resolution):
                raise UserError(f"{file}: cannot be used ({reason}); name larger images.")
    except UserError:
        raise
    except OSError as error:
        if disk_is_full(error):
            raise
        raise UserError(f"{file}: cannot be read ({error.strerror or error}).") from None
    except Exception:  # zipfile, its decompressors and NumPy raise many kinds of errors
        raise UserError(
            f"{file}: is not an archive of samples; {IMAGES} must hold uint8 [N, H, W, 3], and {LABELS}, if present, N "
            "integers, the classes."
        ) from None

    rows = order(len(images))

    def part(start: int, end: int) -> np.ndarray:
        raw = (RawPicture(str(index), 0, np.array(images[index])) for index in rows[start:end])
        return np.stack([square(picture, resolution)[0] for picture in raw]).transpose(0, 3, 1, 2)

    parts = [partial(part, *piece) for piece in chunks(len(images), BATCH)]
    return Samples(Stream(len(images), parts), None if labels is None else labels[rows], None)


def write_archive(file: Path, images: Stream, labels: np.ndarray | None = None) -> None:
    """Write samples as an archive, one batch in memory at a time.

    Args:
        file: ends in .npz.
        images: uint8 batches `[n, 3, R, R]`; the file holds `[N, R, R, 3]`.
        labels: int `[N]`, written as int64; None leaves them out.

    Raises:
        UserError: too little disk space.
    """
    resolution = next(iter(images)).shape[-1]
    require_free(file.parent, len(images) * 3 * resolution**2)
    shape = (len(images), resolution, resolution, 3)
    with atomic_path(file) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with archive.open(zipfile.ZipInfo(f"{IMAGES}.npy", ZIP_DATE), "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for batch in images:
                member.write(np.ascontiguousarray(batch.transpose(0, 2, 3, 1)).tobytes())
        if labels is not None:
            with archive.open(zipfile.ZipInfo(f"{LABELS}.npy", ZIP_DATE), "w") as member:
                np.lib.format.write_array(member, np.asarray(labels, np.int64), allow_pickle=False)
