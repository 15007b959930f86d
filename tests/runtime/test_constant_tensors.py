"""Constants are made once, and outlast inference mode."""

from __future__ import annotations

import torch

from threedgp.runtime.constant_tensors import constant

CPU = torch.device("cpu")


def test_the_same_tensor_each_time() -> None:
    first = constant((1.0, 2.5), torch.float64, CPU)
    assert torch.equal(first, torch.tensor([1.0, 2.5], dtype=torch.float64))
    assert constant((1.0, 2.5), torch.float64, CPU) is first
    assert constant((1.0, 2.5), torch.float32, CPU).dtype is torch.float32


def test_made_in_inference_mode_and_used_in_training() -> None:
    with torch.inference_mode():
        made = constant((3.0, 7.25), torch.float32, CPU)
    x = torch.ones(2, requires_grad=True)
    (x * made).sum().backward()  # keeps `made` for the backward pass, which refuses tensors of inference mode
    assert x.grad.tolist() == [3.0, 7.25]
