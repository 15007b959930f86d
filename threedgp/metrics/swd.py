"""Sliced Wasserstein distance between sets of images (Karras et al. 2018 (Progressive GAN), arXiv 1710.10196, sec. 5).

Every level of a Laplacian pyramid, from the full resolution down to 16 pixels, gives 128 patches of 7x7 pixels per
image. They are normalized per channel over the set and projected onto random directions. The distance is the mean of
the one-dimensional Wasserstein-1 distances, in units of the normalized channel (not times 1000). It needs no network,
takes any number of channels, and compares texture and structure, not meaning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import cv2
import numpy as np

from threedgp.metrics._declaration import BACKGROUND, BLURRED, OTHER_HALF, UNTRAINED, Batches, Metric, Value
from threedgp.runtime.progress import progress

PATCH = 7
NUM_PATCHES = 128
"""Patches of an image on each level."""
MIN_LEVEL = 16
NUM_REPEATS, NUM_DIRECTIONS = 4, 128
MIN_DEVIATION = 1e-5
"""A level whose deviation is below this fraction of the images' largest value holds nothing but rounding errors."""

Images = Iterable[np.ndarray]
"""Batches `[B, C, R, R]` of any number type. Read once per level, so every `iter` must start again."""


def levels(resolution: int) -> list[int]:
    """Resolutions of the pyramid, finest first; an image below 16 pixels has one level."""
    result = [resolution]
    while result[-1] // 2 >= MIN_LEVEL:
        result.append(result[-1] // 2)
    return result


def pyramid_level(image: np.ndarray, steps: int, last: bool) -> np.ndarray:
    """Level `steps` of the Laplacian pyramid of a float32 image `[R, R, C]`; the last keeps its low frequencies."""
    shape = (image.shape[0] >> steps, image.shape[1] >> steps, image.shape[2])
    for _ in range(steps):
        image = cv2.pyrDown(image)
    if not last:
        image = image.reshape(shape) - cv2.pyrUp(cv2.pyrDown(image)).reshape(shape)
    return image.reshape(shape)  # OpenCV drops a single channel


def descriptors(images: Images, count: int, steps: int, last: bool, seed: int) -> np.ndarray:
    """Normalized patches of one level: float32 `[count * 128, 49 * C]`, each with its channels last."""
    rng = np.random.default_rng([seed, steps])
    result, sums, largest = np.empty(0), np.zeros(0), 0.0
    for index, image in enumerate(islice((image for batch in images for image in batch), count)):
        image = np.ascontiguousarray(image.transpose(1, 2, 0), dtype=np.float32)
        level = pyramid_level(image, steps, last)
        if index == 0:
            side, channels = level.shape[1:]
            inside = np.add.outer(np.arange(PATCH) * side, np.arange(PATCH)).ravel() * channels
            inside = np.add.outer(inside, np.arange(channels)).ravel()
            result = np.empty((count, NUM_PATCHES, len(inside)), np.float32)
            sums = np.zeros((2, len(inside)))
        corners = rng.integers(0, side - PATCH + 1, size=(NUM_PATCHES, 2)) @ (side * channels, channels)
        patches = result[index]
        np.take(level.ravel(), np.add.outer(corners, inside), out=patches, mode="clip")
        sums += [patches.sum(axis=0, dtype=np.float64), np.square(patches).sum(axis=0, dtype=np.float64)]
        largest = max(largest, float(np.abs(image).max()))
    mean, square = sums.reshape(2, PATCH**2, channels).mean(axis=1) / (count * NUM_PATCHES)
    deviation = np.sqrt((square - mean**2).clip(min=0))
    result -= np.tile(mean, PATCH**2).astype(np.float32)
    result /= np.tile(np.where(deviation > MIN_DEVIATION * largest, deviation, np.inf), PATCH**2).astype(np.float32)
    return result.reshape(count * NUM_PATCHES, -1)


def _projections(patches: np.ndarray, seed: int, repeat: int) -> np.ndarray:
    """Sorted projections of `[N, D]` onto the random unit directions of a repeat: float32 `[128, N]`."""
    directions = np.random.default_rng([seed, repeat]).standard_normal((NUM_DIRECTIONS, patches.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    projected = directions.astype(np.float32) @ patches.T
    with ThreadPoolExecutor() as pool:  # sorting takes half of the time, and NumPy sorts on one core
        list(pool.map(np.ndarray.sort, np.array_split(projected, os.cpu_count() or 1)))
    return projected


def sliced_wasserstein(
    reference: Images,
    sets: Mapping[str, Images],
    *,
    count: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda images: None,
) -> dict[str, float]:
    """Distance of every set from the reference, averaged over the levels.

    Args:
        count: images taken from the start of every set, which must have as many. Memory: 0.4 MB per image at any
            resolution, 0.8 GB for 2,048.
        seed: of patches and directions. All sets are cut at the same positions, so the distance of a set from itself is
            0.
        advance: called with numbers of processed images, each counted once per level and set.
    """
    pyramid = levels(next(iter(reference)).shape[-1])
    total = dict.fromkeys(sets, 0.0)
    for steps in range(len(pyramid)):
        last = steps == len(pyramid) - 1
        patches = descriptors(reference, count, steps, last, seed)
        target = [_projections(patches, seed, repeat) for repeat in range(NUM_REPEATS)]
        advance(count)
        for name, images in sets.items():
            del patches  # before the next ones are allocated
            patches = descriptors(images, count, steps, last, seed)
            for repeat in range(NUM_REPEATS):
                difference = _projections(patches, seed, repeat)
                difference -= target[repeat]
                total[name] += float(np.abs(difference, out=difference).mean(dtype=np.float64))
                del difference
            advance(count)
        del target, patches
    return {name: value / (NUM_REPEATS * len(pyramid)) for name, value in total.items()}


def measure(
    sets: Mapping[str, Batches], reference: Batches, seed: int, label: str, max_count: int | None = None
) -> dict[str, float]:
    """Distance of every set from the reference, from equally many images of each, at most `max_count`."""
    count = min(len(reference), *map(len, sets.values()), *([max_count] if max_count else []))
    total = len(levels(next(iter(reference)).shape[-1])) * (1 + len(sets)) * count
    with progress(label, total) as bar:
        return sliced_wasserstein(reference, sets, count=count, seed=seed, advance=bar.advance)


METRIC = Metric(
    measure,
    Value(
        "swd",
        "Sliced Wasserstein distance of images",
        "Compares texture and structure with real images at every scale, without a network. A perfect model "
        "scores like the other half of the real set; one that draws no objects scores like the backgrounds.",
        column=60,
    ),
    needs=("images", "real_images", "seed", "label"),
    controls=(UNTRAINED, OTHER_HALF, BLURRED, BACKGROUND),
    jointly=True,
)
