"""An estimator against true depth: pictures and maps of a folder, a score for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from threedgp.data.archives.pictures import SUFFIXES, BadPicture, decode_depth, decode_picture
from threedgp.data.prepare import center_crop
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import DepthEstimator, Rejected
from threedgp.depth.scores import Score, score
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

MAPS = ("_depth.png", "_depth.npy", ".png", ".npy")
"""How the file of a map may end, after the path of its picture without suffix; the first that is there counts."""
BATCH = 16
"""Pictures that are read at a time."""


@dataclass(frozen=True)
class Pair:
    """A picture and its true depth."""

    name: str
    picture: Path
    depth: Path


@dataclass(frozen=True)
class Result:
    """A pair's score, or why there is none."""

    name: str
    score: Score | None = None
    reason: str | None = None


def find_pairs(images: Path, depth: Path | None = None) -> list[Pair]:
    """Pictures below the folder `images` that have a map at the same place below the folder `depth`, sorted by name.

    The map of ``a/b.jpg`` is ``a/b_depth.png``, ``a/b_depth.npy``, ``a/b.png`` or ``a/b.npy``; without `depth` the maps
    lie beside the pictures and end with ``_depth`` (the layout `rgbd`).

    Raises:
        UserError: a folder is missing, or there is not a single pair.
    """
    for folder in (images, *([depth] if depth else [])):
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder; name the one that holds the pictures or their depth.")
    endings = MAPS if depth else MAPS[:2]
    pairs = []
    for picture in sorted(images.rglob("*")):
        if picture.suffix.lower() not in SUFFIXES or picture.stem.endswith("_depth"):
            continue
        name = picture.relative_to(images).with_suffix("").as_posix()
        maps = [place for end in endings if (place := (depth or images) / f"{name}{end}").is_file()]
        if maps:
            pairs.append(Pair(name, picture, maps[0]))
    if not pairs:
        where = depth or images
        raise UserError(
            f"{where}: no picture of {images} has true depth here; it must be called <picture>_depth.png or .npy."
        )
    return pairs


def evaluate_estimator(estimator: DepthEstimator, pairs: Sequence[Pair]) -> list[Result]:
    """Estimate depth of the centre crop of each picture, as the pipeline does, and compare it with the true one.

    Raises:
        UserError: the estimator does not look at pictures.
    """
    if not estimator.looks_at_pixels:
        raise UserError(f"'{estimator.name}' looks at no picture; choose an estimator such as leres.")
    results = []
    with progress("depth-eval", len(pairs)) as bar:
        for start in range(0, len(pairs), BATCH):
            part = pairs[start : start + BATCH]
            results += _evaluate(estimator, part)
            bar.advance(len(part))
    return results


def mean_score(results: Sequence[Result]) -> Score | None:
    """The mean over the pictures that have a score; None if none has."""
    scores = [one.score for one in results if one.score]
    if not scores:
        return None
    return Score(*(float(np.mean([getattr(one, key) for one in scores])) for key in Score.__dataclass_fields__))


def _evaluate(estimator: DepthEstimator, pairs: Sequence[Pair]) -> Iterator[Result]:
    read = [_read(pair) for pair in pairs]
    good = [found for found in read if not isinstance(found, str)]
    maps = iter(estimator.estimate([picture for picture, _ in good]))
    for pair, found in zip(pairs, read, strict=True):
        yield Result(pair.name, reason=found) if isinstance(found, str) else _compare(pair.name, next(maps), found[1])


def _compare(name: str, estimate: NDArray[np.float32] | Rejected, truth: NDArray[np.float32]) -> Result:
    if isinstance(estimate, Rejected):
        return Result(name, reason=estimate.reason)
    if not np.isfinite(estimate).all():
        return Result(name, reason="the depth map has values that are not finite")
    # The estimate is brought to the truth, not the other way round: holes have no average.
    if estimate.shape != truth.shape:
        method = cv2.INTER_AREA if len(truth) < len(estimate) else cv2.INTER_LINEAR
        estimate = cv2.resize(estimate, truth.shape[::-1], interpolation=method)
    found = score(estimate, truth)
    return Result(name, found, None if found else "no pixel of the true depth is known")


def _read(pair: Pair) -> tuple[RawPicture, NDArray[np.float32]] | str:
    """The centre crops of picture and truth, or the reason why they cannot be used."""
    try:
        rgb, truth = decode_picture(pair.picture.read_bytes()), _read_depth(pair.depth)
        (rows, columns), (height, width) = truth.shape, rgb.shape[:2]
        if abs(rows * width - columns * height) > max(rows, columns, height, width):  # more than a rounded-off pixel
            return f"the true depth has {columns}x{rows} pixels, the picture {width}x{height}"
        left, top, right, bottom = center_crop(height, width)
        picture = RawPicture(pair.name, 0, np.ascontiguousarray(rgb[top:bottom, left:right]))
        left, top, right, bottom = center_crop(rows, columns)
        return picture, truth[top:bottom, left:right]
    except (BadPicture, OSError) as error:
        return str(error)


def _read_depth(file: Path) -> NDArray[np.float32]:
    """True depth `[H, W]` of a 16-bit PNG or an array of numbers; what is unknown is 0 or not finite.

    Raises:
        BadPicture: it is something else.
    """
    if file.suffix == ".png":
        return decode_depth(file.read_bytes())
    try:
        # Unlike np.load it takes arrays alone: no zip, no pickle. Mapped, for a header may promise any size.
        depth = np.lib.format.open_memmap(file, mode="r")
    except OSError:
        raise
    except Exception:  # a broken header raises whatever Python's own parser does
        raise BadPicture(f"{file.name} is no array of numbers") from None
    if depth.ndim != 2 or not depth.size or depth.dtype.kind not in "fiu":
        raise BadPicture(f"{file.name} holds {depth.dtype} of shape {depth.shape}, not depth [H, W]")
    return np.array(depth, np.float32)
