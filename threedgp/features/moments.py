"""Mean and covariance of feature vectors, streamed in float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from threedgp.runtime.atomic import atomic_path
from threedgp.runtime.errors import UserError


@dataclass(frozen=True)
class Moments:
    """First two moments of `count` vectors of size D. ``a + b`` are the moments of the union."""

    count: int
    mean: np.ndarray  # float64 [D]
    scatter: np.ndarray  # float64 [D, D]: sum of (x - mean)(x - mean)^T

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Moments of the rows of `features` `[N, D]`, N >= 1."""
        features = np.asarray(features, dtype=np.float64)
        mean = features.mean(axis=0)
        centered = features - mean
        return cls(len(features), mean, centered.T @ centered)

    def __add__(self, other: Moments) -> Moments:
        # Chan, Golub and LeVeque (1983): unlike sums of squares, differences of means do not suffer from cancellation.
        count = self.count + other.count
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, self.mean + apart * (other.count / count), scatter)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance `[D, D]`; zero for a single vector."""
        return self.scatter / max(self.count - 1, 1)

    def save(self, target: Path, key: str) -> None:
        """Write to the .npz file `target` atomically; `key` identifies what the moments were computed from."""
        with atomic_path(target) as temporary:
            # NumPy gives every member the same date, so equal moments give equal bytes.
            np.savez(temporary, count=self.count, mean=self.mean, covariance=self.covariance, key=key)

    @classmethod
    def load(cls, file: Path, key: str) -> Moments:
        """Read what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, or has another `key`.
        """
        again = "run `dvc repro features`."
        try:
            with np.load(file) as arrays:
                count, covariance, found = int(arrays["count"]), arrays["covariance"], str(arrays["key"])
                moments = cls(count, arrays["mean"], covariance * max(count - 1, 1))
        except FileNotFoundError:
            raise UserError(f"{file}: the statistics of the real set are missing; {again}") from None
        except Exception:
            raise UserError(f"{file}: the statistics of the real set cannot be read; {again}") from None
        if found != key:
            raise UserError(f"{file}: these statistics belong to other images or another network; {again}")
        return moments
