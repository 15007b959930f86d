"""The example of docs/rendering.md runs without changes."""

from __future__ import annotations

import re
from pathlib import Path

import torch


def test_the_example_renders_and_differentiates(root: Path) -> None:
    text = (root / "docs" / "rendering.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, object] = {}
    torch.manual_seed(0)
    exec(compile(code, "docs/rendering.md", "exec"), names)
    rendered, image = names["rendered"], names["image"]
    assert rendered.rgb.shape == (2, 64 * 64, 3)
    assert rendered.depth.shape == (2, 64 * 64)
    assert ((rendered.depth >= 0.75) & (rendered.depth <= 1.25)).all()  # between near and far
    assert rendered.rgb.std() > 0
    assert image.grad.shape == image.shape
    assert torch.isfinite(image.grad).all()
    assert image.grad.any()
