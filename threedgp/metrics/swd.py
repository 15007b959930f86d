"""Sliced Wasserstein distance between sets of pictures, as in Progressive GAN (Karras et al. 2018, arXiv 1710.10196,
sec. 5).

Every level of a Laplacian pyramid, from the full resolution down to 16 pixels, gives 128 patches of 7x7 pixels for
each picture. They are normalised for each channel over the set and projected onto random directions; the distance is
the mean of the one-dimensional Wasserstein-1 distances, in units of the normalised channel (not times 1000). It needs
no network, takes any number of channels (depth has one), and compares texture and structure, not meaning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import cv2
import numpy as np

PATCH = 7
PATCHES = 128
"""Patches of a picture on each level."""
SMALLEST_LEVEL = 16
MOST_PICTURES = 16384
"""As many as Progressive GAN took; more change little, and take 0.4 MB of memory each."""
REPEATS, DIRECTIONS = 4, 128
FLAT = 1e-5
"""A level whose deviation is below this share of the pictures' largest value holds nothing but rounding errors."""

Pictures = Iterable[np.ndarray]
"""Batches `[B, C, R, R]` of any number type. Read once a level, so it must start anew with every `iter`."""


def levels(resolution: int) -> list[int]:
    """Resolutions of the pyramid, finest first; a picture below 16 pixels has one level."""
    result = [resolution]
    while result[-1] // 2 >= SMALLEST_LEVEL:
        result.append(result[-1] // 2)
    return result


def work(resolution: int, contestants: int, count: int) -> int:
    """Pictures, counted once a level, that a comparison of `contestants` sets takes."""
    return len(levels(resolution)) * (1 + contestants) * count


def pyramid_level(picture: np.ndarray, steps: int, last: bool) -> np.ndarray:
    """Level `steps` of the Laplacian pyramid of a float32 picture `[R, R, C]`; the last keeps its low frequencies."""
    shape = (picture.shape[0] >> steps, picture.shape[1] >> steps, picture.shape[2])
    for _ in range(steps):
        picture = cv2.pyrDown(picture)
    if not last:
        picture = picture.reshape(shape) - cv2.pyrUp(cv2.pyrDown(picture)).reshape(shape)
    return picture.reshape(shape)  # OpenCV drops a single channel


def _counted(pictures: Pictures, count: int) -> Iterator[np.ndarray]:
    """The first `count` pictures, one by one."""
    found = 0
    for picture in islice((picture for batch in pictures for picture in batch), count):
        found += 1
        yield picture
    if found < count:
        raise ValueError(f"{count} pictures are to be compared, but a set has only {found}")


def descriptors(pictures: Pictures, count: int, steps: int, last: bool, seed: int) -> np.ndarray:
    """Normalised patches of one level: float32 `[count * 128, 49 * C]`, each with its channels last."""
    rng = np.random.default_rng([seed, steps])
    result, sums, largest = np.empty(0), np.zeros(0), 0.0
    for index, picture in enumerate(_counted(pictures, count)):
        picture = np.ascontiguousarray(picture.transpose(1, 2, 0), dtype=np.float32)
        level = pyramid_level(picture, steps, last)
        if index == 0:
            side, channels = level.shape[1:]
            inside = np.add.outer(np.arange(PATCH) * side, np.arange(PATCH)).ravel() * channels
            inside = np.add.outer(inside, np.arange(channels)).ravel()
            result = np.empty((count, PATCHES, len(inside)), np.float32)
            sums = np.zeros((2, len(inside)))
        corners = rng.integers(0, side - PATCH + 1, size=(PATCHES, 2)) @ (side * channels, channels)
        patches = result[index]
        np.take(level.ravel(), np.add.outer(corners, inside), out=patches, mode="clip")
        sums += [patches.sum(axis=0, dtype=np.float64), np.square(patches).sum(axis=0, dtype=np.float64)]
        largest = max(largest, float(np.abs(picture).max()))
    mean, square = sums.reshape(2, PATCH**2, channels).mean(axis=1) / (count * PATCHES)
    deviation = np.sqrt((square - mean**2).clip(min=0))
    result -= np.tile(mean, PATCH**2).astype(np.float32)
    result /= np.tile(np.where(deviation > FLAT * largest, deviation, np.inf), PATCH**2).astype(np.float32)
    return result.reshape(count * PATCHES, -1)


def _projections(patches: np.ndarray, seed: int, repeat: int) -> np.ndarray:
    """Sorted projections of `[N, D]` onto the unit directions of a repeat: float32 `[128, N]`."""
    directions = np.random.default_rng([seed, repeat]).standard_normal((DIRECTIONS, patches.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    projected = directions.astype(np.float32) @ patches.T
    with ThreadPoolExecutor() as pool:  # half of the time is spent here, and NumPy sorts on one core
        list(pool.map(np.ndarray.sort, np.array_split(projected, os.cpu_count() or 1)))
    return projected


def sliced_wasserstein(
    reference: Pictures,
    contestants: Mapping[str, Pictures],
    *,
    count: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda pictures: None,
) -> dict[str, float]:
    """Distance of every contestant from the reference; the mean over the levels.

    Args:
        reference: batches of the set that all are compared with.
        contestants: batches of the other sets, of the same shape.
        count: pictures that are taken from the start of every set. Memory: 0.4 MB a picture at any resolution, which is
            0.8 GB for 2,048.
        seed: of patches and directions. Every set is cut at the same places, so a set is at distance 0 of itself.
        advance: told how many pictures were worked on; in the end, `work` in all.

    Raises:
        ValueError: a set has fewer than `count` pictures.
    """
    pyramid = levels(next(iter(reference)).shape[-1])
    total = dict.fromkeys(contestants, 0.0)
    for steps in range(len(pyramid)):
        last = steps == len(pyramid) - 1
        patches = descriptors(reference, count, steps, last, seed)
        target = [_projections(patches, seed, repeat) for repeat in range(REPEATS)]
        advance(count)
        for name, pictures in contestants.items():
            del patches  # before the next ones are made
            patches = descriptors(pictures, count, steps, last, seed)
            for repeat in range(REPEATS):
                apart = _projections(patches, seed, repeat)
                apart -= target[repeat]
                total[name] += float(np.abs(apart, out=apart).mean(dtype=np.float64))
                del apart
            advance(count)
        del target, patches
    return {name: value / (REPEATS * len(pyramid)) for name, value in total.items()}
