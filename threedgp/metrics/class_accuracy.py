"""Whether generated images show their class: a linear classifier of real images, applied to generated ones.

This is the classification accuracy of Ravuri & Vinyals 2019 (arXiv 1905.10887) the other way round: the classifier is
trained on real images, as the GAN-test of Shmelkov et al. 2018 (arXiv 1807.09536), and linear on fixed features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from threedgp.metrics._declaration import OTHER_HALF, UNTRAINED, Metric, Value

WEIGHT_DECAY = 0.01
MAX_ITERATIONS = 100


class LinearProbe:
    """Multinomial logistic regression of labels int `[N]` on standardized features `[N, D]`, fitted by L-BFGS."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, device: torch.device | str = "cpu") -> None:
        self.device = device
        x = torch.from_numpy(features).to(device)
        self.mean, self.deviation = x.mean(dim=0), x.std(dim=0, correction=0).clamp_min(1e-6)
        self.classes, targets = torch.from_numpy(labels).to(device).unique(return_inverse=True)
        self.weight = torch.zeros(x.shape[1], len(self.classes), device=device, requires_grad=True)
        self.bias = torch.zeros(len(self.classes), device=device, requires_grad=True)
        parameters = [self.weight, self.bias]
        optimizer = torch.optim.LBFGS(parameters, max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(self._logits(x), targets) + WEIGHT_DECAY / 2 * self.weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)

    def _logits(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation @ self.weight + self.bias

    @torch.no_grad()
    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Predicted labels int64 `[N]` of features `[N, D]`."""
        return self.classes[self._logits(torch.from_numpy(features).to(self.device)).argmax(dim=1)].cpu().numpy()


def class_accuracy(
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    real_features: np.ndarray,
    real_labels: np.ndarray,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Fraction of images of every set that a linear probe, fitted on real images, assigns to their class; NaN if the
    real images have fewer than two classes. Features are float32 `[N, D]` and `[M, D]`, labels int `[N]` and `[M]`."""
    if len(np.unique(real_labels)) < 2:
        return dict.fromkeys(features, np.nan)
    probe = LinearProbe(real_features, real_labels, device)
    return {name: float(np.mean(probe(rows) == labels[name])) for name, rows in features.items()}


METRIC = Metric(
    class_accuracy,
    Value(
        "class_accuracy",
        "Class accuracy on {network} features",
        "Fraction of images that a linear classifier, fitted on features of real images, assigns to their class. "
        "The other half of the real set shows what the classifier reaches.",
        better="higher",
        column=105,
        published="class_accuracy",
    ),
    needs=("features", "labels", "real_features", "real_labels", "device"),
    controls=(UNTRAINED, OTHER_HALF),
    jointly=True,
)
