"""Comparison of a depth estimator with the true depth of a folder of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from threedgp.data.archives.pictures import DEPTH_SUFFIXES, SUFFIXES, BadPicture, decode_picture, read_depth_file
from threedgp.data.images import resize_map, same_aspect
from threedgp.data.prepare import center_crop
from threedgp.data.source import RawPicture
from threedgp.depth.estimator import DepthEstimator, Estimate, Rejected
from threedgp.runtime.errors import UserError
from threedgp.runtime.progress import progress

DELTA = 1.25
READ_BATCH = 16
"""Images that are read at a time."""


class Pair(NamedTuple):
    """An image and its true depth."""

    name: str
    image: Path
    depth: Path


@dataclass(frozen=True)
class Score:
    """Agreement of a depth map with the truth, over the pixels whose true depth is known."""

    abs_rel: float  # mean of |aligned - truth| / truth; 0 is perfect
    delta1: float  # fraction of pixels with max(aligned / truth, truth / aligned) < 1.25; 1 is perfect
    correlation: float  # Pearson correlation before the alignment; negative where near and far are exchanged
    known: float  # fraction of pixels whose true depth is known


class Result(NamedTuple):
    """The score of an image, or the reason why it has none."""

    name: str
    score: Score | None = None
    reason: str | None = None


def find_pairs(images: Path, depth: Path | None = None) -> list[Pair]:
    """Images below the folder `images` that have a depth map at the same place below the folder `depth`, by name.

    The map of ``a/b.jpg`` is ``a/b_depth.png``, ``a/b_depth.npy``, ``a/b.png`` or ``a/b.npy``. Without `depth`, maps
    are beside the images and end with ``_depth`` (the layout `rgbd`).

    Raises:
        UserError: a folder is missing, or no image has a map.
    """
    root = depth or images
    for folder in (images, root):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; name the folder of the images or of their depth.")
    pairs = []
    for image in sorted(images.rglob("*")):
        if image.suffix.lower() not in SUFFIXES or image.stem.endswith("_depth"):
            continue
        name = image.relative_to(images).with_suffix("").as_posix()
        candidates = [root / f"{name}{suffix}" for suffix in (DEPTH_SUFFIXES if depth else DEPTH_SUFFIXES[:2])]
        pairs += [Pair(name, image, file) for file in candidates if file.is_file()][:1]
    if not pairs:
        raise UserError(f"{root}: no true depth of the images in {images}; name the files <image>_depth.png or .npy.")
    return pairs


def evaluate_estimator(estimator: DepthEstimator, pairs: Sequence[Pair]) -> list[Result]:
    """Estimate depth of the center crop of each image, as the pipeline does, and compare it with the true depth.

    Raises:
        UserError: the estimator does not use the pixels of an image.
    """
    if not estimator.looks_at_pixels:
        raise UserError(f"'{estimator.name}' does not estimate depth from pixels; choose an estimator such as leres.")
    results: list[Result] = []
    with progress("depth-eval", len(pairs)) as bar:
        for start in range(0, len(pairs), READ_BATCH):
            results += _evaluate(estimator, pairs[start : start + READ_BATCH])
            bar.advance(len(results) - start)
    return results


def mean_score(results: Sequence[Result]) -> Score | None:
    """The mean over the images that have a score; None if none has."""
    scores = [astuple(result.score) for result in results if result.score]
    return Score(*np.mean(scores, axis=0).tolist()) if scores else None


def align(estimate: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """``s * estimate + t`` with the least-squares s >= 0 and t, in closed form; both `[N]`.

    s = max(cov(estimate, truth), 0) / var(estimate), t = mean(truth) - s * mean(estimate). An inverted map gets s = 0,
    so its score is that of a constant map.
    """
    centered = estimate - estimate.mean()
    variance = centered @ centered
    scale = max(centered @ (truth - truth.mean()), 0.0) / variance if variance > 0 else 0.0
    return scale * centered + truth.mean()


def score(estimate: NDArray[np.float32], truth: NDArray[np.float32]) -> Score | None:
    """Compare `estimate` with `truth`, both `[H, W]`, larger = farther; the unit of the truth is arbitrary.

    AbsRel and delta1 are those of Eigen et al. (arXiv 1406.2283), after `align`, as for affine-invariant estimators
    (Yin et al., CVPR 2021). Pixels whose true depth is not finite or not positive are unknown and left out; an aligned
    depth that is not positive fails delta1.

    Returns:
        None if the true depth of no pixel is known.
    """
    known = np.isfinite(truth) & (truth > 0)
    if not known.any():
        return None
    estimate, truth = estimate[known].astype(np.float64), truth[known].astype(np.float64)
    aligned = align(estimate, truth)
    within = (aligned < DELTA * truth) & (truth < DELTA * aligned)  # the ratios without a division by zero
    is_constant = np.ptp(estimate) == 0 or np.ptp(truth) == 0
    return Score(
        abs_rel=float(np.mean(np.abs(aligned - truth) / truth)),
        delta1=float(within.mean()),
        correlation=0.0 if is_constant else float(np.corrcoef(estimate, truth)[0, 1]),
        known=float(known.mean()),
    )


def _evaluate(estimator: DepthEstimator, pairs: Sequence[Pair]) -> Iterator[Result]:
    inputs = [_read(pair) for pair in pairs]
    found = iter(estimator.estimate([item[0] for item in inputs if not isinstance(item, str)]))
    for pair, item in zip(pairs, inputs, strict=True):
        yield Result(pair.name, reason=item) if isinstance(item, str) else _compare(pair.name, next(found), item[1])


def _compare(name: str, found: Estimate | Rejected, truth: NDArray[np.float32]) -> Result:
    if isinstance(found, Rejected):
        return Result(name, reason=found.reason)
    estimate = found.depth
    if not np.isfinite(estimate).all():
        return Result(name, reason="the depth map has values that are not finite")
    # The estimate is resized, not the truth: unknown pixels cannot be averaged.
    if estimate.shape != truth.shape:
        estimate = resize_map(estimate, *truth.shape)
    result = score(estimate, truth)
    return Result(name, result, None if result else "no pixel of the true depth is known")


def _read(pair: Pair) -> tuple[RawPicture, NDArray[np.float32]] | str:
    """The center crops of the image and its true depth, or the reason why they cannot be used. Pixels of unknown depth
    are 0 or not finite."""
    try:
        rgb, truth = decode_picture(pair.image.read_bytes()), read_depth_file(pair.depth)
    except (BadPicture, OSError) as error:
        return str(error)
    (rows, columns), (height, width) = truth.shape, rgb.shape[:2]
    if not same_aspect((rows, columns), (height, width)):
        return f"the true depth has {columns}x{rows} pixels, the image {width}x{height}"
    left, top, right, bottom = center_crop(height, width)
    image = RawPicture(pair.name, 0, np.ascontiguousarray(rgb[top:bottom, left:right]))
    left, top, right, bottom = center_crop(rows, columns)
    return image, truth[top:bottom, left:right]
